"""What a flow run does about itself: its tags, and leaving its place in a worker while its chain is busy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.states import Completed, Scheduled

from flows.sequences import files
from lindley.arrivals.storage import storage_of
from lindley.errors import LindleyError
from lindley.workspace import Workspace

#: Name of the state of a run that waits for its chain outside of the worker.
AWAITING = "AwaitingTurn"
#: Name of the final state of the run in whose place it is.
POSTPONED = "Postponed"
#: Begins the tag with the time since when it waits.
_SINCE = "waiting-since:"
#: Seconds after which it comes again, at least.
AGAIN_SECONDS = 20
#: And for each file of its chain that waits: a run that comes and leaves keeps a place for about two seconds,
#: and many of them together must leave the places to other chains.
EACH_SECONDS = 4
#: Seconds for which it leaves: a process that hangs would otherwise keep its chain for ever.
LEAVE_SECONDS = 6 * 3600.0


def in_worker() -> bool:
    """Return whether this is a run that a worker carries out, not one of a command line or within another."""
    return _of_worker() is not None


def _of_worker() -> FlowRun | None:
    """Return this run where a worker carries it out."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    return run if run is not None and run.parent_task_run_id is None and _deployed(run) else None


def _deployed(run: FlowRun) -> bool:
    return run.deployment_id is not None


def tag(chain: str) -> None:
    """Give the run tags with its chain and kind, by which pages and automations find it.

    A failure is logged and changes nothing.
    """
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        return
    run = context.flow_run
    wanted = {*run.tags, "lindley", f"chain:{chain}", f"kind:{context.flow.name if context.flow else ''}"}
    try:
        with get_client(sync_client=True) as client:
            client.update_flow_run(run.id, tags=sorted(wanted))
    except Exception as error:
        get_run_logger().warning("The run has no tags: %s", error)


def is_free(workspace: Workspace, chain: str) -> bool:
    """Return whether no run of this machine updates a chain."""
    with files.turn(workspace, chain, 0.0) as came:
        return came


def again_after(workspace: Workspace, chain: str) -> int:
    """Return in how many seconds a run of a busy chain comes again: later where many files wait."""
    try:
        waiting = sum(arrival.chain == chain for arrival in storage_of(workspace).arrivals())
    except LindleyError:  # a folder that cannot be read: the sweep reports it
        waiting = 0
    return max(AGAIN_SECONDS, EACH_SECONDS * waiting)


def leave_if_busy(workspace: Workspace, chain: str) -> State[Any] | None:
    """Give the run's place in the worker to others while another run of this machine updates its chain.

    The run ends, and a new one with its parameters is scheduled. Not this one again: the automation that
    looks for dead runs would take a run that sent heartbeats and waits for dead. After `LEAVE_SECONDS` it
    waits in its place, as a run of a command line does.

    Returns
    -------
    State or None
        The final state of the run; None where it goes on.
    """
    run, now = _of_worker(), datetime.now(UTC)
    if run is None or is_free(workspace, chain):
        return None
    since = _since(run, now)
    if (now - since).total_seconds() > LEAVE_SECONDS:
        return None
    seconds = again_after(workspace, chain)
    message = f"Another run is updating {chain}; a new run of this comes in {seconds} s"
    due = now + timedelta(seconds=seconds)
    later: State[Any] = Scheduled(name=AWAITING, scheduled_time=due, message=message)
    try:
        _schedule(run, later, since)
    except Exception as error:  # whatever it is, the run can wait in its place
        get_run_logger().warning("It waits in its place: %s", error)
        return None
    get_run_logger().info(message)
    return Completed(name=POSTPONED, message=message)


def _since(run: FlowRun, now: datetime) -> datetime:
    """Return since when a run, or the first one in whose place it is, has waited."""
    given = [tag.removeprefix(_SINCE) for tag in run.tags if tag.startswith(_SINCE)]
    return datetime.fromisoformat(given[0]) if given else run.created or now


def _schedule(run: FlowRun, state: State[Any], since: datetime) -> None:
    """Schedule a run in the place of another one; called twice, it does so once."""
    tags = {*run.tags, f"{_SINCE}{since.isoformat()}"}
    with get_client(sync_client=True) as client:
        client.create_flow_run_from_deployment(
            cast("UUID", run.deployment_id),
            parameters=run.parameters,
            state=state,
            name=run.name,
            tags=sorted(tags),
            idempotency_key=f"in place of {run.id}",
        )
