"""Findings that a person knows: they turn nothing red, and hide no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lindley.errors import AcknowledgementRefused
from lindley.ledger import signing
from lindley.ledger.record import Artifact
from lindley.verification.check import Checks, check
from lindley.verification.gather import verify_chain
from lindley.verification.rules import Severity
from lindley.verification.signatures import known_of
from tests.support.fakes import MemoryLedger

NAME = "coins"
pytestmark = pytest.mark.usefixtures("read_once")


@pytest.fixture
def touched(coins_chain: MemoryLedger) -> MemoryLedger:
    """A tag of the second link was changed by hand."""
    ledger = coins_chain.clone()
    ledger.models[NAME].versions[2].tags["lindley.origin"] = "by hand.csv"
    return ledger


@pytest.fixture
def known(touched: MemoryLedger, tmp_path: Path) -> Path:
    return acknowledged(touched, tmp_path / "known.json")


def acknowledged(ledger: MemoryLedger, path: Path, key: Path | None = None) -> Path:
    signer = signing.signer_from_environment({signing.KEY_VARIABLE: str(key)}) if key else None
    path.write_bytes(known_of(ledger, NAME, who="Ana", why="ticket 4711", signer=signer))
    return path


def errors(ledger: MemoryLedger, *files: Path, keys: tuple[Path, ...] = ()) -> list[tuple[str, int | None]]:
    report = check(ledger, NAME, Checks(known=files, keys=keys)).report
    assert report.ok == (report.first_error is None)
    return [(f.rule, f.version) for f in report.findings if f.severity == Severity.ERROR]


def test_a_known_finding_is_shown_and_is_no_error(touched: MemoryLedger, known: Path) -> None:
    assert errors(touched) == [("R05", 2)]
    assert errors(touched, known) == []
    report = check(touched, NAME, Checks(known=(known,))).report
    assert report.ok
    (finding,) = report.findings
    assert finding.severity == Severity.KNOWN
    assert finding.message.endswith("(known to Ana: ticket 4711)")


def test_a_new_finding_is_an_error(touched: MemoryLedger, known: Path, tmp_path: Path) -> None:
    touched.flip(NAME, 1, Artifact.SUMMARY)
    assert errors(touched, known) == [("R06", 1)]
    # Both together, in one statement or in two.
    touched.models[NAME].head = 3
    both = acknowledged(touched, tmp_path / "both.json")
    assert errors(touched, both) == errors(touched, known, both) == []


def test_another_change_of_the_same_version_is_an_error(touched: MemoryLedger, known: Path) -> None:
    """Also one that gives the same message: messages cut long values."""
    version = touched.models[NAME].versions[2]
    version.tags["lindley.origin"] = "by hand, again.csv"
    assert errors(touched, known) == [("R05", 2)]
    version.tags["lindley.origin"] = "by hand.csv"
    assert errors(touched, known) == []
    version.tags["another"] = "x"
    assert errors(touched, known) == [("R05", 2)]


def test_plots_and_signatures_may_come_later(touched: MemoryLedger, known: Path) -> None:
    files = touched.run_of(NAME, 2).files
    files["plots/ranks.png"] = files[Artifact.SIGNATURE] = b"x"
    assert errors(touched, known) == []


def test_where_keys_are_given_one_of_them_has_signed_it(
    touched: MemoryLedger, known: Path, tmp_path: Path
) -> None:
    for name in ("ana", "thief"):
        signing.generate(tmp_path / name)
    keys = (tmp_path / "ana.pub",)
    signed = acknowledged(touched, tmp_path / "signed.json", tmp_path / "ana")
    assert errors(touched, signed) == []
    assert ("R05", 2) not in errors(touched, signed, keys=keys)  # the links have no signature
    stolen = acknowledged(touched, tmp_path / "stolen.json", tmp_path / "thief")
    for file in (known, stolen):
        with pytest.raises(AcknowledgementRefused, match="signed by"):
            errors(touched, file, keys=keys)
    document = json.loads(signed.read_bytes())
    document["payload"] = document["payload"][:-8] + "AAAAAAA="
    signed.write_text(json.dumps(document))
    with pytest.raises(AcknowledgementRefused):
        errors(touched, signed, keys=keys)


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b"[" * 10_000, b'{"predicateType": "x"}', b"\xff"])
def test_anything_else_is_refused(touched: MemoryLedger, tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(AcknowledgementRefused):
        errors(touched, tmp_path / "x")
    with pytest.raises(AcknowledgementRefused, match="cannot be read"):
        errors(touched, tmp_path / "none")


def test_that_of_another_chain_is_refused(touched: MemoryLedger, known: Path) -> None:
    known.write_bytes(known.read_bytes().replace(b'"chain":"coins"', b'"chain":"dice"'))
    with pytest.raises(AcknowledgementRefused, match="'dice'"):
        errors(touched, known)


def test_it_has_a_reason_and_something_to_know(touched: MemoryLedger, coins_chain: MemoryLedger) -> None:
    with pytest.raises(AcknowledgementRefused, match="states why"):
        known_of(touched, NAME, who="Ana", why=" ", signer=None)
    with pytest.raises(AcknowledgementRefused, match="nothing to acknowledge"):
        known_of(coins_chain, NAME, who="Ana", why="x", signer=None)


class TestForeignVersions:
    def test_one_that_was_registered_by_other_means_is_a_warning(self, coins_chain: MemoryLedger) -> None:
        ledger = coins_chain.clone()
        number = ledger.register(NAME, "a run of another project", {"team": "x"}, "")
        (finding,) = verify_chain(ledger, NAME).findings
        assert (finding.rule, finding.version, finding.severity) == ("R03", number, Severity.WARNING)
        assert verify_chain(ledger, NAME).ok

    def test_a_link_that_was_stripped_of_all_that_is_lindley_s_is_none(
        self, coins_chain: MemoryLedger
    ) -> None:
        """Its run is still one of the chain's."""
        ledger = coins_chain.clone()
        run = ledger.run_of(NAME, 5)
        run.tags.clear()
        del run.files[Artifact.RECORD]
        ledger.models[NAME].versions[5].tags.clear()
        ledger.models[NAME].head = 2
        assert not verify_chain(ledger, NAME).ok
