"""Verification since a statement: what is new in full, of older links record and batch."""

from __future__ import annotations

from pathlib import Path

import pytest

from lindley.errors import WitnessRefused
from lindley.ledger import signing
from lindley.ledger.record import Artifact
from lindley.model.declaration import Declaration
from lindley.verification import gather
from lindley.verification.check import Checked, Checks, check
from lindley.verification.signatures import head_of, known_of, sign_links
from tests.support.fakes import MemoryLedger, append, coins
from tests.support.forging import forge

NAME, LAST = "coins", 5
pytestmark = pytest.mark.usefixtures("read_once")


@pytest.fixture
def statement(five_chain: MemoryLedger, tmp_path: Path) -> Path:
    """What `lindley head` wrote when the chain had five links."""
    path = tmp_path / "head.json"
    path.write_bytes(head_of(five_chain, NAME, None))
    return path


@pytest.fixture
def grown(five_chain: MemoryLedger, declaration: Declaration, statement: Path) -> MemoryLedger:
    """The chain with a sixth link."""
    ledger = five_chain.clone()
    append(ledger, declaration, coins(declaration, 50, k=6))
    return ledger


def since(ledger: MemoryLedger, statement: Path) -> Checked:
    return check(ledger, NAME, Checks(since=statement))


def rules(ledger: MemoryLedger, statement: Path | None) -> set[tuple[str, int | None]]:
    return {(f.rule, f.version) for f in check(ledger, NAME, Checks(since=statement)).report.findings}


def test_older_links_are_read_in_part(
    grown: MemoryLedger, statement: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, bool]] = []
    whole, part = gather._gather_version, gather._vouched_version
    monkeypatch.setattr(gather, "_gather_version", lambda g, v: seen.append((v.number, True)) or whole(g, v))
    monkeypatch.setattr(gather, "_vouched_version", lambda g, v: seen.append((v.number, False)) or part(g, v))
    found = since(grown, statement)
    assert seen == [*((number, False) for number in range(1, 6)), (6, True)]
    assert found.report.findings == ()
    assert found.report.vouched == 5
    assert found.message.startswith("coins: verified (6 links, 5 by record and batch only, ")
    assert check(grown, NAME, Checks()).report.vouched == 0


@pytest.mark.parametrize("file", [Artifact.RECORD, Artifact.BATCH])
def test_a_changed_record_or_batch_of_an_old_link_is_found(
    grown: MemoryLedger, statement: Path, file: str
) -> None:
    grown.flip(NAME, 2, file)
    assert rules(grown, statement) == rules(grown, None) != set()


def test_a_changed_tag_metric_or_run_of_an_old_link_is_found(grown: MemoryLedger, statement: Path) -> None:
    grown.models[NAME].versions[2].tags["lindley.origin"] = "other.csv"
    grown.run_of(NAME, 3).metrics["r_hat_max"] = 1.0
    assert rules(grown, statement) == rules(grown, None)
    assert {("R05", 2), ("R18", 3)} <= rules(grown, statement)


@pytest.mark.parametrize("file", [Artifact.TRACE, Artifact.SUMMARY, Artifact.MODEL])
def test_another_file_of_an_old_link_is_found_by_the_complete_mode_only(
    grown: MemoryLedger, statement: Path, file: str
) -> None:
    grown.flip(NAME, 2, file)
    assert rules(grown, statement) == set()
    assert ("R06", 2) in rules(grown, None)


def test_any_file_of_a_new_link_is_found(grown: MemoryLedger, statement: Path) -> None:
    grown.flip(NAME, 6, Artifact.TRACE)
    assert ("R06", 6) in rules(grown, statement)


def test_a_new_link_that_counts_an_old_row_is_found(
    grown: MemoryLedger, statement: Path, declaration: Declaration
) -> None:
    """The row keys of old batches are compared, so that skipping their other files is sound."""
    batch = grown.run_of(NAME, 2).files[Artifact.BATCH]
    forge(grown, NAME, 6, files={Artifact.BATCH: batch})
    assert {("R07", 6)} <= rules(grown, statement) == rules(grown, None)


def test_a_rewritten_history_is_not_vouched_for(grown: MemoryLedger, statement: Path) -> None:
    forge(grown, NAME, 3, lambda record: record["gate"].update(warnings=["none"]))
    found = since(grown, statement).report
    assert "W02" in {finding.rule for finding in found.findings}
    assert found.vouched == 0  # where an old link has a finding, everything is read


def test_a_statement_must_be_of_the_chain_and_signed_where_keys_are_used(
    grown: MemoryLedger, statement: Path, tmp_path: Path
) -> None:
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(WitnessRefused):
        since(grown, tmp_path / "other.json")
    signing.generate(tmp_path / "key")
    keys = (tmp_path / "key.pub",)
    signer = signing.signer_from_environment({signing.KEY_VARIABLE: str(tmp_path / "key")})
    assert signer is not None
    sign_links(grown, NAME, signer)
    unsigned = check(grown, NAME, Checks(since=statement, keys=keys)).report
    assert {finding.rule for finding in unsigned.findings} == {"W01"}
    assert unsigned.vouched == 0
    statement.write_bytes(head_of(grown, NAME, signer))
    signed = check(grown, NAME, Checks(since=statement, keys=keys)).report
    assert (signed.findings, signed.vouched) == ((), 6)


def test_heads_and_signatures_take_acknowledged_findings(grown: MemoryLedger, tmp_path: Path) -> None:
    from lindley.errors import LedgerCorrupt

    grown.models[NAME].versions[2].tags["lindley.origin"] = "by hand.csv"
    with pytest.raises(LedgerCorrupt, match="--known"):
        head_of(grown, NAME, None)
    known = tmp_path / "known.json"
    known.write_bytes(known_of(grown, NAME, who="Ana", why="ticket 4711", signer=None))
    assert head_of(grown, NAME, None, [known])
    grown.flip(NAME, 1, Artifact.SUMMARY)
    with pytest.raises(LedgerCorrupt, match="R06"):
        head_of(grown, NAME, None, [known])
