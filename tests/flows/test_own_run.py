"""A run in a worker leaves its place while its chain is busy; tags; what `lindley deploy` sets up."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.exceptions import PrefectHTTPStatusError
from prefect.states import Scheduled

from flows import own_run
from flows.own_run import AWAITING, POSTPONED
from flows.sequences import files
from flows.server import deploy
from flows.states import STATE_NAMES
from flows.sweep import sweep
from flows.update import update
from tests.support import fakes

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch, ledger, fits, workspace) -> None:
    monkeypatch.setattr("flows.steps.open_ledger", lambda _: ledger)


@pytest.fixture
def in_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_run, "_deployed", lambda run: True)


def newest_run(name: str) -> FlowRun:
    with get_client(sync_client=True) as client:
        runs = [run for run in client.read_flow_runs() if run.name == name]
    return max(runs, key=lambda run: run.created)


@pytest.mark.usefixtures("in_worker")
def test_a_run_of_a_busy_chain_gives_up_its_place_to_a_later_one(workspace, ledger, land, monkeypatch):
    land("busy.csv")
    scheduled: list[tuple[FlowRun, State[Any]]] = []
    monkeypatch.setattr(own_run, "_schedule", lambda run, state, since: scheduled.append((run, state)))
    with files.turn(workspace, "coins") as held:
        assert held
        state = update("coins", "busy.csv", return_state=True)
    # A final state: the automation that looks for dead runs cannot take it for one.
    assert (state.is_completed(), state.name) == (True, POSTPONED)
    assert "Another run is updating coins" in str(state.message)
    ((run, later),) = scheduled
    assert run.parameters["file"] == "busy.csv"
    assert (later.type.value, later.name) == ("SCHEDULED", AWAITING)
    assert ledger.chains() == []
    # Its chain is free.
    assert update("coins", "busy.csv", return_state=True).name == "Completed"


def test_the_later_run_does_what_the_first_one_was_to_do():
    since = datetime(2026, 11, 30, tzinfo=UTC)
    due: State[Any] = Scheduled(name=AWAITING, scheduled_time=datetime(2100, 1, 1, tzinfo=UTC))
    with get_client(sync_client=True) as client:
        made = client.create_deployment(client.create_flow(update), name="update")
        first = client.create_flow_run_from_deployment(
            made, parameters={"chain": "coins", "file": "x.csv"}, name="coins <- x.csv", tags=["mine"]
        )
        for _ in range(2):
            own_run._schedule(first, due, since)
        runs = [run for run in client.read_flow_runs() if run.deployment_id == made and run.id != first.id]
    (run,) = runs
    assert (run.name, run.parameters) == (first.name, first.parameters)
    assert run.state is not None
    assert (run.state.type.value, run.state.name) == ("SCHEDULED", AWAITING)
    assert "mine" in run.tags
    assert own_run._since(run, datetime.now(UTC)) == since
    assert own_run._since(first, datetime.now(UTC)) == first.created


@pytest.mark.usefixtures("in_worker")
def test_one_whose_successor_cannot_be_scheduled_waits_in_its_place(workspace, land, monkeypatch):
    land("here.csv")
    monkeypatch.setattr(own_run, "is_free", lambda *_: False)  # and no deployment: the server refuses
    assert update("coins", "here.csv", return_state=True).name == "Completed"


def test_the_more_files_wait_the_later_each_run_comes_again(workspace, land):
    assert own_run.again_after(workspace, "coins") == own_run.AGAIN_SECONDS
    for number in range(50):
        land(f"{number}.csv")
    fakes.declare(workspace.models, "dice")
    land("x.csv", chain="dice")
    assert own_run.again_after(workspace, "coins") == 50 * own_run.EACH_SECONDS
    assert own_run.again_after(workspace, "dice") == own_run.AGAIN_SECONDS


@pytest.mark.usefixtures("in_worker")
def test_one_that_has_waited_long_goes_on_in_its_place(workspace, land, monkeypatch):
    land("late.csv")
    monkeypatch.setattr(own_run, "LEAVE_SECONDS", -1.0)
    monkeypatch.setattr(own_run, "is_free", lambda *_: False)
    assert update("coins", "late.csv", return_state=True).is_completed()


@pytest.mark.usefixtures("in_worker")
def test_a_sweep_in_a_worker_leaves_busy_chains_to_their_runs(workspace, land):
    fakes.declare(workspace.models, "dice")
    land("a.csv")
    land("x.csv", chain="dice")
    with files.turn(workspace, "coins"):
        state = sweep(return_state=True)
    done = state.result(raise_on_failure=False)
    assert [(row["chain"], row["status"]) for row in done.rows] == [("dice", "accepted"), ("coins", "busy")]
    assert state.is_completed()


def test_runs_are_tagged_with_chain_and_kind(land):
    land("tagged.csv")
    update("coins", "tagged.csv", return_state=True)
    assert set(newest_run("coins <- tagged.csv").tags) == {"lindley", "chain:coins", "kind:update"}


# -- lindley deploy -----------------------------------------------------------------------------------


@flow
def nothing() -> None:
    """Do nothing."""


def test_the_server_refuses_runs_with_a_command_in_lindleys_pool(monkeypatch, tmp_path):
    monkeypatch.setattr(deploy, "_deploy_flows", lambda file: None)
    for _ in range(2):
        deploy.deploy(tmp_path / "prefect.yaml", "closed")
    with get_client(sync_client=True) as client:
        assert len(client.read_automations_by_name(deploy.AUTOMATION)) == 1
        made = client.create_deployment(client.create_flow(nothing), name="mine", work_pool_name="closed")
        assert client.create_flow_run_from_deployment(made).id
        variables: list[dict[str, Any]] = [{"command": "touch x"}, {"env": {"A": "1"}}, {"working_dir": "/"}]
        for given in variables:
            with pytest.raises(PrefectHTTPStatusError, match="422"):
                client.create_flow_run_from_deployment(made, job_variables=given)
        pool = client.read_work_pool("closed")
        assert set(pool.base_job_template["job_configuration"]) == {"name"}


def test_every_final_state_ends_the_wait_for_a_heartbeat():
    """Else a run that ended as Unchanged would be marked as crashed: events carry the name of the state."""
    trigger = deploy.automation("lindley").trigger
    for name in {*STATE_NAMES.values(), POSTPONED, "Failed", "Cancelled", "Crashed", "Verified"}:
        assert f"prefect.flow-run.{name}" in trigger.expect
    assert deploy.automation("lindley").actions[0].force is False
