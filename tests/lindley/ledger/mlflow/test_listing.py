"""Versions listed as far as a process does not know them: what a full listing gives at the newer end."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from lindley.ledger.mlflow import listing
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.protocol import Run
from lindley.ledger.record import canonical, digest, genesis_record

GENESIS = canonical(
    genesis_record("chain", {"digest": "0" * 64, "carried": [], "carry": {}, "observed": [], "row_key": []})
)


@pytest.fixture
def ledger(tmp_path: Path) -> MlflowLedger:
    ledger = MlflowLedger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    ledger.claim("chain", GENESIS, "")
    return ledger


_records = itertools.count()


def add(ledger: MlflowLedger, count: int = 1) -> None:
    for _ in range(count):
        run_id = ledger.open_run("chain", Run(name="link"))
        record = digest(str(next(_records)).encode())
        ledger.register("chain", run_id, {"lindley.record": record, "lindley.previous": "0" * 64}, "")


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many versions each search of the registry gave."""
    counts: list[int] = []
    plain: Callable[..., Any] = listing._search

    def counted(*arguments: Any) -> Any:
        found = plain(*arguments)
        counts.append(len(found))
        return found

    monkeypatch.setattr(listing, "_search", counted)
    return counts


def test_only_what_came_since_is_asked_for(ledger: MlflowLedger, seen: list[int], tmp_path: Path) -> None:
    add(ledger, 5)
    first = ledger.versions("chain", fresh=False)
    assert [version.number for version in first] == [1, 2, 3, 4, 5]
    other = MlflowLedger(ledger.uri, tmp_path)
    add(other, 2)
    seen.clear()
    found = ledger.versions("chain", fresh=False)
    assert seen == [3]  # the newest one that was known, and the two that came
    assert found == ledger.versions("chain")
    assert ledger.versions("chain", fresh=False) == found


def test_another_ledger_and_another_chain_are_not_mixed_up(ledger: MlflowLedger, tmp_path: Path) -> None:
    add(ledger, 3)
    ledger.versions("chain", fresh=False)
    (tmp_path / "other").mkdir()
    other = MlflowLedger(f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}", tmp_path / "other")
    other.claim("chain", GENESIS, "")
    assert other.versions("chain", fresh=False) == []
    ledger.claim("second", GENESIS, "")
    assert ledger.versions("second", fresh=False) == []


def test_a_newest_version_that_was_deleted_is_gone(ledger: MlflowLedger) -> None:
    add(ledger, 3)
    ledger.versions("chain", fresh=False)
    ledger.client.delete_model_version("chain", "3")
    assert [v.number for v in ledger.versions("chain", fresh=False)] == [1, 2]
    add(ledger)
    assert ledger.versions("chain", fresh=False) == ledger.versions("chain")


def test_a_newest_version_that_was_changed_is_seen(ledger: MlflowLedger) -> None:
    add(ledger, 3)
    ledger.versions("chain", fresh=False)
    ledger.client.set_model_version_tag("chain", "2", "lindley.previous", "1" * 64)
    ledger.client.set_model_version_tag("chain", "3", "lindley.previous", "2" * 64)
    assert [v.previous[0] for v in ledger.versions("chain", fresh=False)] == ["0", "1", "2"]


def test_a_chain_that_was_made_anew_is_listed_anew(ledger: MlflowLedger) -> None:
    add(ledger, 3)
    ledger.versions("chain", fresh=False)
    ledger.client.delete_registered_model("chain")
    ledger.claim("chain", GENESIS, "")
    assert ledger.versions("chain", fresh=False) == []
    add(ledger, 4)
    assert ledger.versions("chain", fresh=False) == ledger.versions("chain")


def test_an_older_version_that_was_changed_is_for_fresh_listings(ledger: MlflowLedger) -> None:
    add(ledger, 3)
    ledger.versions("chain", fresh=False)
    ledger.client.set_model_version_tag("chain", "1", "lindley.previous", "9" * 64)
    assert ledger.versions("chain", fresh=False)[0].previous == "0" * 64
    assert ledger.versions("chain")[0].previous == "9" * 64
    # And what a fresh listing found is what holds from then on.
    assert ledger.versions("chain", fresh=False)[0].previous == "9" * 64


def test_a_registry_that_cannot_search_by_number_is_listed_whole(
    ledger: MlflowLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(ledger, 2)
    ledger.versions("chain", fresh=False)
    add(ledger)
    plain = ledger.client.search_model_versions

    def without_numbers(condition: str, **rest: Any) -> Any:
        if "version_number" in condition:
            raise MlflowException("no such attribute", INVALID_PARAMETER_VALUE)
        return plain(condition, **rest)

    monkeypatch.setattr(ledger.client, "search_model_versions", without_numbers)
    assert [v.number for v in ledger.versions("chain", fresh=False)] == [1, 2, 3]
