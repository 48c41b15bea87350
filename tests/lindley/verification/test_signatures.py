"""Signed chains and witnesses: changes that the rules cannot detect, because every digest was recomputed."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lindley.errors import KeyRefused, LedgerCorrupt, WitnessRefused
from lindley.ledger import signing
from lindley.ledger.record import Artifact
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration
from lindley.verification import signature_rules, signatures
from lindley.verification.gather import envelopes, verify_chain
from lindley.verification.rules import Scope, sentences
from tests.support import amendments
from tests.support.fakes import MemoryLedger, append, coins, logged
from tests.support.forging import forge

pytestmark = pytest.mark.usefixtures("read_once")
NAME = "coins"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("old", "new", "thief"):
        signing.generate(folder / name)
    return folder


@pytest.fixture(scope="module")
def use(folder: Path) -> Iterator[Callable[[str], None]]:
    """Return a function that puts a key into the environment."""
    with pytest.MonkeyPatch.context() as patch:
        yield lambda name: patch.setenv(signing.KEY_VARIABLE, str(folder / name) if name else "")


@pytest.fixture(scope="module")
def made(declaration: Declaration, use: Callable[[str], None]) -> MemoryLedger:
    """Three links; the key changed before the third."""
    ledger = MemoryLedger()
    for start, name in ((0, "old"), (10, "old"), (20, "new")):
        use(name)
        append(ledger, declaration, coins(declaration, start))
    use("")
    return ledger


@pytest.fixture
def signed(made: MemoryLedger) -> MemoryLedger:
    return made.clone()


def keys_of(folder: Path, *names: str) -> list[Any]:
    return [signing.public_key(folder / f"{name}.pub") for name in names]


def found_with(ledger: MemoryLedger, keys: list[Any], name: str = NAME) -> list[tuple[str, int | None]]:
    report = verify_chain(ledger, name)
    assert report.ok, report.findings  # the rules alone see nothing
    report = signature_rules.with_signatures(report, envelopes(ledger, name), keys)
    assert set(sentences(Scope.SIGNATURE)) <= set(report.rules)
    return [(finding.rule, finding.link) for finding in report.findings]


def found_by(
    ledger: MemoryLedger, witness: bytes, keys: list[Any], name: str = NAME
) -> list[tuple[str, int | None]]:
    report = signature_rules.with_witness(verify_chain(ledger, name), witness, keys)
    return [(finding.rule, finding.link) for finding in report.findings if finding.severity == "error"]


def rewrite(ledger: MemoryLedger, declaration: Declaration, kept: int = 1) -> None:
    """Cut a chain after some links and grow it again with other data: every digest is right."""
    stored = ledger.models[NAME]
    for number in [number for number in stored.versions if number > kept]:
        del ledger.runs[stored.versions.pop(number).run_id]
    stored.last, stored.head = kept, kept or None
    # A run's id is its number in the fake: make room for those that were deleted.
    ledger.runs |= {f"gone-{i}": next(iter(ledger.runs.values())) for i in range(3 - kept)}
    for start in range(10 * kept, 30, 10):
        append(ledger, declaration, coins(declaration, start, k=8))
    ledger.runs = {name: run for name, run in ledger.runs.items() if not name.startswith("gone")}


class TestSigned:
    def test_every_link_is_signed_by_the_key_of_its_time(self, signed: MemoryLedger, folder: Path) -> None:
        assert found_with(signed, keys_of(folder, "old", "new")) == []
        assert found_with(signed, keys_of(folder, "new")) == [("S03", 1), ("S03", 2)]

    def test_the_signature_is_complete_when_the_version_exists(
        self, signed: MemoryLedger, declaration: Declaration, use: Callable[[str], None]
    ) -> None:
        use("new")
        link = logged(signed, declaration, coins(declaration, 40))
        use("")
        assert Artifact.SIGNATURE in signed.runs[link.run_id].files
        assert Artifact.SIGNATURE not in link.record["artifacts"]
        register_link(signed, link)

    def test_the_statement_is_of_this_place_in_this_chain(self, signed: MemoryLedger) -> None:
        statement = signing.opened(signed.run_of(NAME, 2).files[Artifact.SIGNATURE], []).statement
        tags = signed.models[NAME].versions[2].tags
        assert statement["subject"] == [
            {"name": "coins/2", "digest": {"sha256": tags["lindley.record"]}}
        ]  # fmt: skip
        assert statement["predicate"] == {
            "chain": NAME,
            "link": 2,
            "kind": "update",
            "previous": tags["lindley.previous"],
            "batch": tags["lindley.batch"],
        }

    @pytest.mark.parametrize("act", ["rollback", "retract", "retract and fit", "branch"])
    def test_a_link_with_an_earlier_belief_is_signed_too(
        self,
        act: str,
        signed: MemoryLedger,
        declaration: Declaration,
        folder: Path,
        use: Callable[[str], None],
    ) -> None:
        name = NAME
        use("new")
        if act == "rollback":
            amendments.rollback(signed, declaration, 1)
        elif act == "branch":
            name, branch = f"{NAME}--if", dataclasses.replace(declaration, name=f"{NAME}--if")
            amendments.branch(signed, branch, NAME, "2")
        else:  # without the newest batch the belief is that of the link before
            amendments.retract(signed, declaration, 3 if act == "retract" else 1)
        use("")
        assert found_with(signed, keys_of(folder, "old", "new"), name) == []
        witness = signatures.head_of(signed, name, None)
        assert found_by(signed, witness, [], name) == []

    def test_a_branch_is_not_started_with_a_key_that_cannot_be_used(
        self, signed: MemoryLedger, declaration: Declaration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(signing.KEY_VARIABLE, "/nowhere/key")
        branch = dataclasses.replace(declaration, name=f"{NAME}--if")
        with pytest.raises(KeyRefused):
            amendments.branch(signed, branch, NAME, "2")
        assert signed.chains() == [NAME]

    def test_without_a_key_nothing_is_signed(self, coins_chain: MemoryLedger, folder: Path) -> None:
        assert found_with(coins_chain, keys_of(folder, "old")) == [("S01", 1), ("S01", 2), ("S01", 3)]

    def test_a_key_that_cannot_be_used_is_refused_before_anything_is_written(
        self, signed: MemoryLedger, declaration: Declaration, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv(signing.KEY_VARIABLE, "/nowhere/key")
        runs = len(signed.runs)
        with pytest.raises(KeyRefused):
            append(signed, declaration, coins(declaration, 40))
        assert len(signed.runs) == runs

    def test_no_secret_is_in_what_was_written(self, signed: MemoryLedger, folder: Path) -> None:
        secret = (folder / "old").read_text().splitlines()[1]
        for run in signed.runs.values():
            assert secret not in repr((run.tags, run.run))
            assert not any(secret.encode() in data for data in run.files.values())


class TestTampering:
    def test_a_signature_that_was_lost(self, signed: MemoryLedger, folder: Path) -> None:
        del signed.run_of(NAME, 2).files[Artifact.SIGNATURE]
        assert found_with(signed, keys_of(folder, "old", "new")) == [("S01", 2)]

    @pytest.mark.parametrize("data", [b"", b"{}", b"\xff", b"[" * 10_000])
    def test_an_envelope_that_is_none(self, signed: MemoryLedger, folder: Path, data: bytes) -> None:
        signed.run_of(NAME, 2).files[Artifact.SIGNATURE] = data
        assert found_with(signed, keys_of(folder, "old", "new")) == [("S02", 2)]

    def test_a_payload_that_was_changed(self, signed: MemoryLedger, folder: Path) -> None:
        files = signed.run_of(NAME, 2).files
        envelope = json.loads(files[Artifact.SIGNATURE])
        envelope["payload"] = json.loads(signed.run_of(NAME, 1).files[Artifact.SIGNATURE])["payload"]
        files[Artifact.SIGNATURE] = json.dumps(envelope).encode()
        assert found_with(signed, keys_of(folder, "old", "new")) == [("S02", 2)]

    def test_a_signature_of_another_link(self, signed: MemoryLedger, folder: Path) -> None:
        signed.run_of(NAME, 2).files[Artifact.SIGNATURE] = signed.run_of(NAME, 1).files[Artifact.SIGNATURE]
        assert found_with(signed, keys_of(folder, "old", "new")) == [("S04", 2)]

    def test_a_record_that_was_changed_with_all_that_vouches_for_it(
        self, signed: MemoryLedger, folder: Path
    ) -> None:
        envelope = signed.run_of(NAME, 3).files.pop(Artifact.SIGNATURE)
        forge(signed, NAME, 3, lambda record: record["metrics"].update(divergences=5.0))
        signed.run_of(NAME, 3).files[Artifact.SIGNATURE] = envelope
        assert found_with(signed, keys_of(folder, "old", "new")) == [("S04", 3)]

    @pytest.mark.parametrize("kept", [0, 1, 2])
    def test_a_chain_that_was_rewritten(
        self, signed: MemoryLedger, declaration: Declaration, folder: Path, kept: int
    ) -> None:
        witness = signatures.head_of(signed, NAME, None)
        rewrite(signed, declaration, kept)
        accepted = keys_of(folder, "old", "new")
        assert found_with(signed, accepted) == [("S01", link) for link in range(kept + 1, 4)]
        assert found_by(signed, witness, []) == [("W02", kept + 1)]

    def test_a_chain_that_was_rewritten_and_signed_with_another_key(
        self, signed: MemoryLedger, declaration: Declaration, folder: Path, use: Callable[[str], None]
    ) -> None:
        witness = signatures.head_of(signed, NAME, None)
        use("thief")
        rewrite(signed, declaration)
        use("")
        assert found_with(signed, keys_of(folder, "old", "new")) == [("S03", 2), ("S03", 3)]
        assert found_by(signed, witness, []) == [("W02", 2)]

    def test_a_chain_that_was_cut_off_is_found_by_a_witness_alone(
        self, signed: MemoryLedger, folder: Path
    ) -> None:
        witness = signatures.head_of(signed, NAME, None)
        stored = signed.models[NAME]
        del signed.runs[stored.versions.pop(3).run_id]
        stored.head = 2
        assert found_with(signed, keys_of(folder, "old", "new")) == []
        assert found_by(signed, witness, []) == [("W02", None)]

    def test_a_chain_that_starts_elsewhere(
        self, signed: MemoryLedger, declaration: Declaration, tmp_path: Path
    ) -> None:
        witness = signatures.head_of(signed, NAME, None)
        from tests.support.fakes import declare

        other = MemoryLedger()
        append(other, declare(tmp_path, code="\nONE = 1\n"), coins(declaration, 0))
        assert found_by(other, witness, []) == [("W02", None)]


class TestWitness:
    def test_a_chain_that_grew_still_has_its_history(
        self, signed: MemoryLedger, declaration: Declaration, folder: Path
    ) -> None:
        signer = signing.signer_from_environment({signing.KEY_VARIABLE: str(folder / "new")})
        plain, sealed = (signatures.head_of(signed, NAME, each) for each in (None, signer))
        append(signed, declaration, coins(declaration, 40))
        keys = keys_of(folder, "old", "new")
        assert found_by(signed, plain, []) == found_by(signed, sealed, []) == []
        assert found_by(signed, sealed, keys) == []
        assert found_by(signed, plain, keys) == [("W01", None)]
        assert found_by(signed, sealed, keys_of(folder, "thief")) == [("W01", None)]

    def test_a_chain_without_links_has_a_head(self, signed: MemoryLedger, declaration: Declaration) -> None:
        empty = signed.clone()
        stored = empty.models[NAME]
        for number in list(stored.versions):
            del empty.runs[stored.versions.pop(number).run_id]
        stored.head = None
        witness = signatures.head_of(empty, NAME, None)
        assert json.loads(witness)["predicate"]["link"] == 0
        assert found_by(signed, witness, []) == found_by(empty, witness, []) == []

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"[]",
            b"{}",
            b"[" * 10_000,
            json.dumps(signing.link_statement(
                chain=NAME, link=1, record="a", kind="update", previous="b", batch=""
            )).encode(),
            json.dumps(signing.head_statement(chain="other", genesis="a", records=[])).encode(),
            json.dumps({"predicateType": signing.HEAD_TYPE, "predicate": {"records": [1]}}).encode(),
        ],
    )  # fmt: skip
    def test_what_is_no_witness_of_the_chain_is_refused(self, signed: MemoryLedger, data: bytes) -> None:
        with pytest.raises(WitnessRefused):
            found_by(signed, data, [])

    def test_a_chain_that_is_not_as_recorded_is_not_signed(self, signed: MemoryLedger) -> None:
        signed.flip(NAME, 2, "summary.csv")
        with pytest.raises(LedgerCorrupt, match="R06"):
            signatures.head_of(signed, NAME, None)


class TestSigningLater:
    def test_links_without_a_signature_get_one_and_others_keep_theirs(
        self, signed: MemoryLedger, folder: Path
    ) -> None:
        del signed.run_of(NAME, 2).files[Artifact.SIGNATURE]
        first = signed.run_of(NAME, 1).files[Artifact.SIGNATURE]
        signer = signing.signer_from_environment({signing.KEY_VARIABLE: str(folder / "new")})
        assert signatures.sign_links(signed, NAME, signer) == [2]
        assert signed.run_of(NAME, 1).files[Artifact.SIGNATURE] == first
        assert found_with(signed, keys_of(folder, "old", "new")) == []
        assert signatures.sign_links(signed, NAME, signer) == []
        with pytest.raises(KeyRefused):
            signatures.sign_links(signed, NAME, None)
