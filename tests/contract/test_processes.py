"""Writers in separate processes: one fresh database, one chain, one genesis."""

from __future__ import annotations

from pathlib import Path

import pytest

from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.record import canonical
from tests.contract.processes import at_once, open_and_claim

WRITERS = 6


def _claim_at_once(uri: str, root: Path) -> MlflowLedger:
    genesis = [canonical({"writer": number}) for number in range(WRITERS)]
    held = at_once(open_and_claim, [(uri, root, "race", each) for each in genesis])
    assert len(set(held)) == 1, held
    assert held[0] in genesis
    ledger = MlflowLedger(uri, root)
    assert ledger.genesis("race") == held[0]
    assert ledger.versions("race") == []
    assert ledger.dead_runs("race") == []
    return ledger


def test_six_processes_open_a_fresh_database_and_claim_one_chain(tmp_path: Path) -> None:
    ledger = _claim_at_once(f"sqlite:///{tmp_path / 'fresh' / 'mlflow.db'}", tmp_path)
    assert ledger.chains() == ["race"]


@pytest.mark.e2e
def test_six_processes_claim_one_chain_of_a_server(mlflow_server: str, tmp_path: Path) -> None:
    _claim_at_once(mlflow_server, tmp_path)
