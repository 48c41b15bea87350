"""What a flow run does about itself: its tags, and leaving its place in a worker while its chain is busy."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.exceptions import Pause
from prefect.logging import get_run_logger
from prefect.states import Scheduled

from flows.sequences import files
from lindley.arrivals.landing import arrivals
from lindley.errors import LindleyError
from lindley.workspace import Workspace

#: Name of the state of a run that waits for its chain outside of the worker.
AWAITING = "AwaitingTurn"
#: Event of such a run. The automation that looks for dead runs waits for it: the event of the state itself
#: may reach the server before the run's last heartbeat, after which nothing more comes for a while.
LEFT = "lindley.flow-run.left"
#: Seconds after which it comes again, at least.
AGAIN_SECONDS = 20
#: And for each file of its chain that waits: a run that comes and leaves keeps a place for about two seconds,
#: and many of them together must leave the places to other chains.
EACH_SECONDS = 4
#: Seconds for which it leaves: a process that hangs would otherwise keep its chain for ever.
LEAVE_SECONDS = 6 * 3600.0


def in_worker() -> bool:
    """Return whether this is a run that a worker carries out, not one of a command line or within another."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    return run is not None and run.parent_task_run_id is None and _deployed(run)


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


def _free(workspace: Workspace, chain: str) -> bool:
    with files.turn(workspace, chain, 0.0) as came:
        return came


def again_after(workspace: Workspace, chain: str) -> int:
    """Return in how many seconds a run of a busy chain comes again: later where many files wait."""
    try:
        waiting = sum(arrival.chain == chain for arrival in arrivals(workspace.landing))
    except LindleyError:  # a folder that cannot be read: the sweep reports it
        waiting = 0
    return max(AGAIN_SECONDS, EACH_SECONDS * waiting)


def leave_if_busy(workspace: Workspace, chain: str) -> None:
    """Give the run's place in the worker to others while another run of this machine updates its chain.

    The run is scheduled again and its process ends. After `LEAVE_SECONDS` it waits in its place, as a run of
    a command line does.

    Raises
    ------
    Pause
        If the chain is busy: Prefect's engine ends this process.
    """
    if not in_worker():
        return
    if _free(workspace, chain):
        return
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    now = datetime.now(UTC)
    if run is None or (run.created is not None and (now - run.created).total_seconds() > LEAVE_SECONDS):
        return
    seconds = again_after(workspace, chain)
    message = f"Another run is updating {chain}; this one comes again in {seconds} s"
    get_run_logger().info(message)
    later = now + timedelta(seconds=seconds)
    state: State[Any] = Scheduled(name=AWAITING, scheduled_time=later, message=message)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run.id, state, force=True)
    # By the way of the heartbeats, and so after them.
    emit_event(LEFT, {"prefect.resource.id": f"prefect.flow-run.{run.id}", "prefect.resource.name": run.name})
    raise Pause(message, state=state)
