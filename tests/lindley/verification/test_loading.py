"""A link is loaded only as it was signed, witnessed or seen before, and its code runs only once checked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lindley.errors import KeyRefused, LedgerCorrupt, WitnessRefused
from lindley.ledger import signing
from lindley.ledger.history import Link
from lindley.ledger.record import Artifact
from lindley.model.declaration import Declaration
from lindley.verification import signatures
from lindley.verification.loading import Brought, checked_link, paths
from tests.support.fakes import MemoryLedger, append, coins

NAME = "coins"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("own", "thief"):
        signing.generate(folder / name)
    return folder


@pytest.fixture(scope="module")
def made(declaration: Declaration, keys: Path) -> MemoryLedger:
    """Three signed links."""
    ledger = MemoryLedger()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(signing.KEY_VARIABLE, str(keys / "own"))
        for start in (0, 10, 20):
            append(ledger, declaration, coins(declaration, start))
    return ledger


@pytest.fixture
def ledger(made: MemoryLedger) -> MemoryLedger:
    return made.clone()


def rolled_back(ledger: MemoryLedger) -> MemoryLedger:
    """The store as it was one link before."""
    older = ledger.clone()
    last = max(older.models[NAME].versions)
    del older.models[NAME].versions[last]
    older.models[NAME].head = last - 1
    return older


def load(ledger: MemoryLedger, **brought: object) -> Link:
    return checked_link(ledger, f"{NAME}@head", Brought(**brought))  # type: ignore[arg-type]


def test_a_signed_link_loads_with_its_key_and_not_with_another(ledger: MemoryLedger, keys: Path) -> None:
    assert load(ledger, keys=(keys / "own.pub",)).view.number == 3
    with pytest.raises(LedgerCorrupt, match=r"link 3 was not loaded.*S03"):
        load(ledger, keys=(keys / "thief.pub",))
    with pytest.raises(KeyRefused):
        load(ledger, keys=(keys / "missing.pub",))


@pytest.mark.parametrize("change", ["lost", "of another link"])
def test_a_link_without_its_own_signature_is_refused(change: str, ledger: MemoryLedger, keys: Path) -> None:
    files = ledger.run_of(NAME, 3).files
    if change == "lost":
        del files[Artifact.SIGNATURE]
    else:
        files[Artifact.SIGNATURE] = ledger.run_of(NAME, 2).files[Artifact.SIGNATURE]
    with pytest.raises(LedgerCorrupt, match="S01" if change == "lost" else "S04"):
        load(ledger, keys=(keys / "own.pub",))
    assert load(ledger).view.number == 3


def test_a_store_that_was_put_back_is_noticed_with_a_witness(
    ledger: MemoryLedger, keys: Path, tmp_path: Path
) -> None:
    witness = tmp_path / "head.json"
    witness.write_bytes(signatures.head_of(ledger, NAME, signing.signer_from_environment({})))
    assert load(ledger, witnesses=(witness,)).view.number == 3
    with pytest.raises(LedgerCorrupt, match=r"W02.*only 2 links"):
        load(rolled_back(ledger), witnesses=(witness,))
    with pytest.raises(LedgerCorrupt, match="W01"):
        load(ledger, witnesses=(witness,), keys=(keys / "own.pub",))
    with pytest.raises(WitnessRefused):
        load(ledger, witnesses=(tmp_path / "missing",))


def test_a_store_that_was_put_back_is_noticed_by_what_was_seen(ledger: MemoryLedger, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    older = rolled_back(ledger)
    assert load(older, seen=seen).view.number == 2
    assert load(ledger, seen=seen).view.number == 3
    held = (seen / f"{NAME}.json").read_bytes()
    with pytest.raises(LedgerCorrupt, match=r"older than what was seen.*as link 3.*only 2 links"):
        load(older, seen=seen)
    assert (seen / f"{NAME}.json").read_bytes() == held
    assert load(older).view.number == 2
    (seen / f"{NAME}.json").write_text("{}")
    with pytest.raises(LedgerCorrupt, match="cannot be read"):
        load(ledger, seen=seen)


def test_no_code_of_a_changed_file_runs(ledger: MemoryLedger, tmp_path: Path) -> None:
    inputs = pd.DataFrame({"n": [10, 20]})
    assert load(ledger).predict(inputs)["mean"].between(1, 15).all()
    mark = tmp_path / "ran"
    files = ledger.run_of(NAME, 3).files
    files[Artifact.MODEL] += f"\nopen({str(mark)!r}, 'w')\n".encode()
    with pytest.raises(LedgerCorrupt, match=r"model\.py"):
        load(ledger).predict(inputs)
    assert not mark.exists()
    files[Artifact.MODEL] = ledger.run_of(NAME, 2).files[Artifact.MODEL]
    ledger.flip(NAME, 3, "belief/draws.nc")
    with pytest.raises(LedgerCorrupt, match=r"draws\.nc"):
        load(ledger).predict(inputs)


def test_the_mlflow_model_is_copied_file_by_file_once_checked(ledger: MemoryLedger, tmp_path: Path) -> None:
    ledger.run_of(NAME, 3).files["belief/extra.py"] = b"raise SystemExit\n"
    folder = load(ledger).download_belief(tmp_path / "good")
    assert sorted(path.name for path in folder.iterdir()) == ["MLmodel", "draws.nc"]
    ledger.flip(NAME, 3, "belief/MLmodel")
    with pytest.raises(LedgerCorrupt, match="MLmodel"):
        load(ledger).download_belief(tmp_path / "bad")


def test_one_path_or_several_may_be_given() -> None:
    assert paths(None) == ()
    assert paths("a") == paths(Path("a")) == (Path("a"),)
    assert paths(["a", Path("b")]) == (Path("a"), Path("b"))
