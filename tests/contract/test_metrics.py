"""Metrics that come after a run was opened, and runs that are read together: on every backend alike."""

from __future__ import annotations

from lindley.ledger.protocol import Ledger, Run
from tests.contract.conftest import Backend


def test_metrics_come_later_too(backend: Backend, chain: str) -> None:
    ledger = backend.ledger
    run_id = ledger.open_run(chain, Run(name="link", metrics={"seconds/sample": 1.5}))
    ledger.close_run(run_id, "finished", "accepted", {"seconds/log": 0.25, "seconds/total": 1 / 3})
    ledger.log_metrics(run_id, {"seconds/plots": 0.5})
    state = backend.again().run_state(run_id)
    assert state is not None
    assert (state.status, state.tags["lindley.state"]) == ("finished", "accepted")
    assert state.metrics == {
        "seconds/sample": 1.5, "seconds/log": 0.25, "seconds/total": 1 / 3, "seconds/plots": 0.5,
    }  # fmt: skip


def test_a_run_is_closed_with_metrics_and_no_state(ledger: Ledger, chain: str) -> None:
    run_id = ledger.open_run(chain, Run(name="link"))
    ledger.close_run(run_id, "finished", metrics={"seconds/log": 0.25})
    state = ledger.run_state(run_id)
    assert state is not None
    assert (state.status, state.metrics) == ("finished", {"seconds/log": 0.25})
    assert "lindley.state" not in state.tags


def test_all_runs_of_a_chain_are_read_together(backend: Backend, chain: str) -> None:
    ledger = backend.ledger
    assert ledger.run_states(chain) == {}
    runs = [
        ledger.open_run(chain, Run(name=f"link {i}", tags={"lindley.origin": str(i)}, metrics={"m": i}))
        for i in range(5)
    ]
    ledger.open_run(f"{chain}-other", Run(name="another chain's"))
    ledger.close_run(runs[1], "finished", "accepted")
    ledger.close_run(runs[2], "killed", "abandoned")
    found = backend.again().run_states(chain)
    assert set(found) == set(runs)
    assert found == {run_id: ledger.run_state(run_id) for run_id in runs}
    assert [found[run_id].metrics["m"] for run_id in runs] == [0, 1, 2, 3, 4]
    assert found[runs[1]].status == "finished"
