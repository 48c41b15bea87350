"""Runs of a worker that has ended are marked as crashed, and no others."""

from __future__ import annotations

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL
from prefect.states import Completed, Pending, Running, Scheduled

from flows.server.dead_runs import mark_crashed

pytestmark = pytest.mark.usefixtures("prefect_server")


@flow
def nothing() -> None:
    """Do nothing."""


@task
def inner() -> None:
    """Do nothing either."""


@pytest.fixture
def address() -> str:
    return PREFECT_API_URL.value().removesuffix("/api")


@pytest.fixture
def runs() -> dict[str, str]:
    """Return ids of runs of a deployment in the pool ``dead``, by state, and of one in no pool."""
    with get_client(sync_client=True) as client:
        if not any(pool.name == "dead" for pool in client.read_work_pools()):
            client.create_work_pool(WorkPoolCreate(name="dead", type="process"))
        flow_id = client.create_flow(nothing)
        deployment = client.create_deployment(flow_id, name="nothing", work_pool_name="dead")
        made = {}
        for state in (Running(), Pending(), Scheduled(), Completed()):
            run = client.create_flow_run_from_deployment(deployment)
            client.set_flow_run_state(run.id, state, force=True)
            made[state.name] = str(run.id)
        asks = client.create_flow_run_from_deployment(deployment, tags=["kind:decide"])
        client.set_flow_run_state(asks.id, Running(), force=True)
        made["question"] = str(asks.id)
        parent = client.create_task_run(inner, made["Running"], dynamic_key="0")
        subflow = client.create_flow_run(nothing, parent_task_run_id=parent.id, state=Running())
        made["subflow"] = str(subflow.id)
        made["elsewhere"] = str(client.create_flow_run(nothing, state=Running()).id)
    return made


def states(runs: dict[str, str]) -> dict[str, str]:
    with get_client(sync_client=True) as client:
        return {name: client.read_flow_run(run).state_name for name, run in runs.items()}


def test_unfinished_runs_of_the_pool_are_marked(address, runs):
    assert len(mark_crashed(address, "dead", "a:b")) == 4
    assert states(runs) == {
        "Running": "Crashed",
        "Pending": "Crashed",
        "Scheduled": "Scheduled",
        "Completed": "Completed",
        "subflow": "Crashed",
        "elsewhere": "Running",
        "question": "AwaitingRetry",
    }
    assert mark_crashed(address, "dead", "a:b") == []


def test_without_a_server_no_run_is_marked():
    assert mark_crashed("http://127.0.0.1:9", "dead", "a:b") == []
