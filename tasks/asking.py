"""The runs that ask a person: one for each candidate, which waits until the decision is made anywhere."""

from __future__ import annotations

from typing import Any, cast

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateType,
    FlowRunFilterTags,
)
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import ObjectNotFound
from prefect.logging import get_run_logger
from prefect.states import Cancelled

from tasks.names import DECIDE, DECIDE_TAG

#: The deployment whose run asks a person; without it candidates are decided on by command only.
ASKING = f"{DECIDE}/{DECIDE}"
#: A run that has not been started yet, or that is suspended.
_OPEN = [StateType.SCHEDULED, StateType.PENDING, StateType.PAUSED]


def ask(
    client: SyncPrefectClient, chain: str, version: int | str | None, record: str, again: str = ""
) -> None:
    """Create the run that asks a person about a candidate, once.

    Parameters
    ----------
    record
        Digest of its record.
    again
        Id of the run whose process died before it was answered; its question is asked again, once.
    """
    try:
        deployment = client.read_deployment_by_name(ASKING)
    except ObjectNotFound:
        get_run_logger().info("There is no deployment %s: decide by `lindley approve` or `reject`", ASKING)
        return
    asked = client.create_flow_run_from_deployment(
        deployment.id,
        parameters={"chain": chain, "version": str(version)},
        tags=["lindley", f"chain:{chain}", DECIDE_TAG, _tag(record)],
        idempotency_key=record + again,
    )
    get_run_logger().info("The flow run %s asks a person to decide", asked.name)


def open_questions(client: SyncPrefectClient, record: str = "") -> list[FlowRun]:
    """Return the runs that still ask: about a candidate, given its record's digest, or about all."""
    return _runs(client, record, _OPEN)


def crashed_questions(client: SyncPrefectClient) -> list[FlowRun]:
    """Return the runs whose process died before they were answered."""
    return _runs(client, "", [StateType.CRASHED])


def close(client: SyncPrefectClient, run: FlowRun, sentence: str) -> None:
    """Cancel a run that asks about what was decided elsewhere."""
    client.set_flow_run_state(run.id, cast("Any", Cancelled(message=sentence)), force=True)


def _runs(client: SyncPrefectClient, record: str, states: list[StateType]) -> list[FlowRun]:
    wanted = FlowRunFilter(
        tags=FlowRunFilterTags(all_=[_tag(record)] if record else [DECIDE_TAG]),
        state=FlowRunFilterState(type=FlowRunFilterStateType(any_=states)),
        deployment_id=FlowRunFilterDeploymentId(is_null_=False),  # what it calls inherits its tags
    )
    return client.read_flow_runs(flow_run_filter=wanted)


def _tag(record: str) -> str:
    return f"candidate:{record[:16]}"
