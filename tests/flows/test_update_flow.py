"""The flow `update` on a real Prefect server, with a ledger in memory and no sampler."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import State

from flows.sequences.result import Result
from flows.states import outcome_of
from flows.sweep import sweep
from flows.unexpected import Unexpected
from flows.update import update, update_batch
from lindley.errors import BatchRefused, FitFailed, LedgerUnavailable, LindleyError, UnknownChain
from lindley.ledger import registration
from lindley.ledger.history import history
from tasks import options
from tasks.batch import read_batch
from tasks.link import fit, log_link, plan, register_link
from tasks.plots import draw_plots
from tasks.progress import watched
from tasks.publish import publish
from tests.support import fakes
from tests.support.flow_runs import artifacts

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch, ledger, fits, workspace) -> None:
    monkeypatch.setattr("flows.steps.open_ledger", lambda _: ledger)
    for task in (plan, fit, log_link, register_link, draw_plots):
        monkeypatch.setattr(task, "retry_delay_seconds", 0)


def run(chain: str, file: str, **options: Any) -> tuple[State[Any], Result | LindleyError]:
    state = update(chain, file, return_state=True, **options)
    return state, outcome_of(state)


def flow_run(state: State[Any]) -> Any:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def task_runs(state: State[Any]) -> dict[str, int]:
    """Return how often each task of a flow run ran."""
    wanted = FlowRunFilter(id=FlowRunFilterId(any_=[state.state_details.flow_run_id]))
    with get_client(sync_client=True) as client:
        found = client.read_task_runs(flow_run_filter=wanted)
    return {re.sub(r"-\w+$", "", run.name): run.run_count for run in found}


def test_a_file_becomes_a_link_in_a_run_that_names_both(ledger, land):
    land("a.csv")
    state, result = run("coins", "a.csv")
    assert state.is_completed()
    assert state.message == "a.csv is link 1 of coins (version 1)"
    assert isinstance(result, Result)
    assert flow_run(state).name == "coins <- a.csv"
    assert flow_run(state).flow_id is not None
    run_tags = ledger.run_of("coins", 1).tags
    assert run_tags["lindley.flow_run"] == str(state.state_details.flow_run_id)


def test_the_run_shows_summary_table_picture_and_progress(land):
    land("a.csv")
    state, _ = run("coins", "a.csv")
    left = artifacts(state)
    assert set(left) == {"coins-summary", "coins-parameters", "coins-prior-posterior", "coins-sampler"}
    assert "link 1" in left["coins-summary"]["data"]
    assert "updated the model's own priors" in left["coins-summary"]["data"]
    assert '"theta"' in left["coins-parameters"]["data"]
    picture = re.search(r"data:image/png;base64,([^)]+)", left["coins-prior-posterior"]["data"])
    assert picture is not None
    assert base64.b64decode(picture[1]).startswith(b"\x89PNG")
    assert left["coins-sampler"]["data"] == 100.0
    assert all(item["description"] for item in left.values())


def test_a_terminal_can_watch_the_sampler(land):
    land("a.csv")
    seen: list[tuple[int, int]] = []
    with watched(lambda done, total: seen.append((done, total))):
        run("coins", "a.csv")
    assert seen == [(500, 1000), (1000, 1000)]


def test_the_same_batch_again_ends_as_unchanged(land, fits):
    land("a.csv")
    run("coins", "a.csv")
    land("b.csv")
    state, result = run("coins", "b.csv")
    assert (state.name, state.is_completed()) == ("Unchanged", True)
    assert "already in coins as link 1" in state.message
    assert result.status == "unchanged"
    assert artifacts(state) == {}


def test_a_file_that_another_run_took_ends_as_unchanged():
    state, result = run("coins", "a.csv")
    assert (state.name, result.status) == ("Unchanged", "gone")
    assert task_runs(state) == {}


def test_a_quarantined_fit_ends_as_quarantined_with_the_reason(ledger, land, fits):
    fits.passed = False
    land("a.csv")
    state, _ = run("coins", "a.csv")
    # Automations on failures go by the name of the state.
    assert (state.name, state.is_failed()) == ("Failed", True)
    assert state.message.startswith("Quarantined: ")
    assert "R-hat 1.3100 of theta" in state.message
    assert history(ledger, "coins") == []
    assert "quarantined" in artifacts(state)["coins-summary"]["data"]


def test_a_bad_batch_fails_the_run_with_one_paragraph_and_is_set_aside(workspace, ledger, land):
    land("a.csv", text="id,k,n\n1,3,ten\n")
    state, error = run("coins", "a.csv")
    assert state.is_failed()
    assert isinstance(error, BatchRefused)
    assert state.message == str(error)
    assert "\n" not in state.message
    assert (workspace.rejected / "coins" / "a.csv.reason.json").exists()
    assert ledger.chains() == []
    assert task_runs(state) == {"read batch": 1}


def test_an_unknown_chain_fails_the_run(land):
    path = land("a.csv", chain="dice")
    state, error = run("dice", "a.csv")
    assert state.is_failed()
    assert isinstance(error, UnknownChain)
    assert path.exists()


def test_a_transient_error_is_tried_again(monkeypatch, land):
    calls = []
    register = registration.register_link

    def sometimes(*args):
        calls.append(args)
        if len(calls) < 3:
            raise LedgerUnavailable("The ledger did not answer")
        return register(*args)

    monkeypatch.setattr("lindley.ledger.registration.register_link", sometimes)
    land("a.csv")
    state, _ = run("coins", "a.csv")
    assert state.is_completed()
    assert task_runs(state)["register link"] == 3


def test_and_fails_the_run_when_it_stays(monkeypatch, land):
    def never(*_):
        raise LedgerUnavailable("The ledger did not answer")

    monkeypatch.setattr("lindley.ledger.registration.register_link", never)
    path = land("a.csv")
    state, error = run("coins", "a.csv")
    assert state.is_failed()
    assert isinstance(error, LedgerUnavailable)
    assert task_runs(state)["register link"] == 1 + len(options.RETRY_DELAYS)
    assert path.exists()


def test_an_error_that_stays_is_not_tried_again(land, fits):
    fits.error = FitFailed("It failed")
    land("a.csv")
    _, error = run("coins", "a.csv")
    assert isinstance(error, FitFailed)
    assert len(fits.plans) == 1


def test_a_lost_race_is_planned_again_by_the_flow(workspace, ledger, land, fits):
    declaration = fakes.declare(workspace.models)

    def rival() -> None:
        if not ledger.chains():
            fakes.append(ledger, declaration, fakes.coins(declaration, 20))

    fits.during = rival
    land("a.csv")
    state, result = run("coins", "a.csv")
    assert state.is_completed()
    assert result.link == 2


def test_an_error_that_nobody_raised_on_purpose_is_not_hidden(land, fits, workspace):
    fits.error = ZeroDivisionError("a bug")
    land("a.csv")
    state = update("coins", "a.csv", return_state=True)
    assert state.is_failed()
    error = outcome_of(state)
    assert isinstance(error, Unexpected)
    assert error.found == "ZeroDivisionError: a bug"
    (log,) = (workspace.root / ".lindley" / "logs").glob("error-*.log")
    assert "ZeroDivisionError: a bug" in log.read_text()
    assert str(log) in error.todo


def test_pages_that_cannot_be_made_do_not_undo_the_link(monkeypatch, ledger, land):
    def fails(*_):
        raise RuntimeError("no page")

    monkeypatch.setattr("tasks.publish.summary_text", fails)
    land("a.csv")
    state, result = run("coins", "a.csv")
    assert state.is_completed()
    assert result.status == "accepted"
    assert len(history(ledger, "coins")) == 1


def test_files_that_arrived_before_come_first_in_runs_of_their_own(ledger, land):
    land("c.csv", 9, minutes=1)
    land("a.csv", 1, minutes=3)
    land("b.csv", 5, minutes=2)
    _, result = run("coins", "c.csv")
    assert result.link == 3
    assert [view.origin for view in history(ledger, "coins")] == ["a.csv", "b.csv", "c.csv"]
    runs = {ledger.runs[view.run_id].tags["lindley.flow_run"] for view in history(ledger, "coins")}
    assert len(runs) == 3


def test_no_task_or_flow_caches_or_pickles_anything():
    for task in (read_batch, plan, fit, log_link, register_link, publish):
        assert task.cache_policy == NO_CACHE
        assert task.persist_result is False
    for made in (update, update_batch, sweep):
        assert made.persist_result is False


def test_pictures_are_drawn_in_a_task_of_their_own(ledger, land):
    land("a.csv")
    state, result = run("coins", "a.csv")
    assert task_runs(state)["draw plots"] == 1
    assert ledger.runs[result.run_id].files["plots/prior_posterior.png"].startswith(b"\x89PNG")


def test_a_drawing_that_fails_never_fails_the_run(monkeypatch, ledger, land):
    def fail(*_: object) -> None:
        raise ValueError("no font")

    monkeypatch.setattr("lindley.operations.plots.draw_missing", fail)
    land("a.csv")
    state, result = run("coins", "a.csv")
    assert (state.is_completed(), result.status) == (True, "accepted")
    assert task_runs(state)["draw plots"] == 1  # a bug is not tried again
    assert "coins-summary" in artifacts(state)
    assert len(history(ledger, "coins")) == 1
