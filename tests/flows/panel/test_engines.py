"""One update of a panel on each engine, with a real Prefect server: equal leaves."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.panel.processes import fit_panel_here, run_in_processes
from flows.sequences.result import Result
from flows.states import outcome_of
from flows.update import update
from lindley.ledger.history import find_link
from lindley.model.declaration import Declaration
from lindley.operations.panel.fit import fit_panel
from lindley.operations.plan import Plan
from lindley.panel.link import panel_link
from tests.support import panels
from tests.support.fakes import MemoryLedger
from tests.support.flow_runs import artifacts

STORES = {"s0": 1, "s1": 2, "s2": 3, "bad": panels.BROKEN}


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    return panels.declare(Path(tmp_path_factory.mktemp("shops")))


@pytest.fixture(scope="module")
def planned(shops: Declaration) -> Plan:
    return panels.planned(MemoryLedger(), shops, panels.batch(shops, STORES, 0))


@pytest.fixture(scope="module")
def leaves(planned: Plan) -> list[bytes]:
    """The leaves that one process gives."""
    return [row.hash for row in fit_panel(planned).rows]


@pytest.mark.e2e
def test_processes_give_the_same_leaves_and_one_that_is_killed_is_run_again(
    planned: Plan, leaves: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINDLEY_PANEL_SHARDS", "2")
    monkeypatch.setenv("LINDLEY_PANEL_WORKERS", "2")
    runs: list[list[int]] = []

    def killed_once(folder: Path, numbers: list[int]) -> None:
        runs.append(list(numbers))
        if len(runs) == 1:
            threading.Thread(target=kill_a_worker, daemon=True).start()
        run_in_processes(folder, numbers, 2)

    assert [row.hash for row in fit_panel(planned, killed_once, shards=2).rows] == leaves
    assert len(runs) == 2
    assert fit_panel_here(planned).index.root == fit_panel(planned).index.root


def kill_a_worker() -> None:
    """Kill the first process of a pool that this one starts."""
    for _ in range(600):
        for child in psutil.Process(os.getpid()).children():
            if "spawn_main" in " ".join(child.cmdline()):
                time.sleep(1.0)
                child.send_signal(signal.SIGKILL)
                return
        time.sleep(0.1)


def updated(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, MemoryLedger]:
    """Run the flow on a file of a panel; return its state and the ledger."""
    ledger = MemoryLedger()
    (folder / "models").mkdir()
    panels.declare(folder / "models")
    panels.rows(STORES, 0).to_csv(folder / "shops-000.csv", index=False)
    monkeypatch.setenv("LINDLEY_HOME", str(folder))
    monkeypatch.setattr("flows.steps.open_ledger", lambda _: ledger)
    state = update(panels.NAME, str(folder / "shops-000.csv"), return_state=True)
    result = outcome_of(state)
    assert isinstance(result, Result), result
    assert result.status == "accepted"
    return state, ledger


@pytest.mark.usefixtures("prefect_server")
class TestFlow:
    def test_one_flow_run_is_one_link_with_a_page(
        self, tmp_path: Path, leaves: list[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LINDLEY_PANEL_SHARDS", "2")
        monkeypatch.setenv("LINDLEY_PANEL_WORKERS", "1")
        state, ledger = updated(tmp_path, monkeypatch)
        head = panel_link(find_link(ledger, panels.NAME))
        assert {entry.leaf for entry in head.index.entries().values()} == set(leaves)
        left = artifacts(state)
        assert "4 members updated, 1 member quarantined" in left["shops-summary"]["data"]
        assert "[store=bad]" in left["shops-members"]["data"]

    @pytest.mark.faults
    @pytest.mark.parametrize("engine", ["ray", "dask"])
    def test_engines_give_the_same_leaves(
        self, tmp_path: Path, leaves: list[bytes], monkeypatch: pytest.MonkeyPatch, engine: str
    ) -> None:
        for name, text in {"ENGINE": engine, "SHARDS": "2", "WORKERS": "2"}.items():
            monkeypatch.setenv(f"LINDLEY_PANEL_{name}", text)
        _, ledger = updated(tmp_path, monkeypatch)
        head = panel_link(find_link(ledger, panels.NAME))
        assert {entry.leaf for entry in head.index.entries().values()} == set(leaves)
