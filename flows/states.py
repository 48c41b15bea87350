"""Names and final states of flow runs, and results read from them."""

from __future__ import annotations

from typing import Any

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.sequences.result import Result, Status
from lindley.errors import LindleyError

#: Name of the final state by the status of the result of a run that succeeded.
STATE_NAMES = {
    Status.ACCEPTED: "Completed",
    Status.AUDITED: "Completed",
    Status.CANDIDATE: "Candidate",
    Status.REJECTED: "Rejected",
    Status.HELD: "Held",
    Status.UNCHANGED: "Unchanged",
    Status.GONE: "Unchanged",
    Status.UNFINISHED: "Unfinished",
}


def name_with_chain() -> str:
    """Return the name of the flow, followed by the chain if the run is about a single one."""
    return " ".join(filter(None, [str(flow_run.flow_name), flow_run.parameters.get("chain")]))


def ended(result: Result) -> State[Any]:
    """Return the final state of a run.

    A quarantined fit is a failed state, with Prefect's own name for it, by which automations know failures.
    """
    if result.status == Status.QUARANTINED:
        message = f"Quarantined: {result.message}"
        get_run_logger().error(message)
        return Failed(message=message, data=result)
    for sentence in (result.message, *result.highlights):
        get_run_logger().info(sentence)
    for warning in result.warnings:
        get_run_logger().warning(warning)
    message = "; ".join((result.message, *result.warnings))
    return Completed(name=STATE_NAMES[result.status], message=message, data=result)


def failed(error: LindleyError) -> State[Any]:
    """Return a failed state with the error's paragraph as message; a traceback would explain less."""
    get_run_logger().error(str(error))
    return Failed(message=str(error), data=error)


def outcome_of(state: State[Any]) -> Result | LindleyError:
    """Return what a run came to; see `value_of`."""
    found: Result | LindleyError = value_of(state, Result)
    return found


def value_of(state: State[Any], kind: Any) -> Any:
    """Return the result of a run, an instance of `kind`, or the error that it failed with.

    Raises
    ------
    Exception
        If it failed with, or was stopped by, anything but a `LindleyError`.
    """
    value = state.result(raise_on_failure=False)
    if isinstance(value, kind | LindleyError):
        return value
    if isinstance(value, BaseException):
        raise value
    raise RuntimeError(f"The flow run ended as {state.name}: {state.message}")
