"""The steps of the sequences as Prefect tasks, and how a flow runs a sequence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Concatenate

from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger

from flows import own_run
from flows.sequences.result import Result
from flows.sequences.steps import Steps
from flows.states import ended, failed
from flows.unexpected import unexpected
from lindley.errors import LindleyError
from lindley.ledger.backend import open_ledger
from lindley.workspace import Workspace
from tasks.announce import announce
from tasks.batch import read_batch, read_source
from tasks.link import fit, log_link, plan, register_link
from tasks.plots import draw_plots
from tasks.publish import publish


def run_sequence[**P](
    sequence: Callable[Concatenate[Steps, Workspace, str, P], Result],
    chain: str,
    *given: P.args,
    **options: P.kwargs,
) -> State[Any]:
    """Run a sequence on a chain with Prefect tasks as its steps; return the flow run's final state."""
    workspace = Workspace.from_environment()
    own_run.tag(chain)
    try:
        left = own_run.leave_if_busy(workspace, chain)
        if left is not None:
            return left
        result = sequence(task_steps(), workspace, chain, *given, **options)
    except LindleyError as error:
        return failed(error)
    except Exception as error:  # a defect, of Lindley or of a model's own code
        get_run_logger().exception("Unexpected error")
        return failed(unexpected(error, f"{sequence.__name__} {chain}"))
    return ended(result)


def task_steps() -> Steps:
    """Return the steps as Prefect tasks. A link stands whatever becomes of its plots and pages."""

    def planned(planner: Callable[..., Any], *given: Any, **options: Any) -> Any:
        named = plan.with_options(name=planner.__name__.replace("_", " "))
        return named(planner, *given, **options)

    return Steps(
        open_ledger=open_ledger,
        read=read_batch,
        plan=planned,
        fit=_fit,
        log=log_link,
        register=register_link,
        draw=_optional(draw_plots, "plots were not drawn"),
        announce=_optional(announce, "automations were not informed"),
        publish=_optional(publish, "artifacts were not published"),
        notify=get_run_logger().info,
        pull=read_source,
    )


def _fit(plan: Any) -> Any:
    """Fit a plan in a task; the members of a panel in one task a shard."""
    if plan.compiling:
        get_run_logger().info(plan.compiling)
    if plan.members is None:
        return fit(plan)
    from flows.panel.engines import fit_on_engine  # to save start-up time of chains with one belief

    return fit_on_engine(plan)


def _optional(step: Callable[..., Any], without: str) -> Callable[..., None]:
    """Return a step whose failure is only logged."""

    def run(*given: Any) -> None:
        state = step(*given, return_state=True)
        if state.is_failed():
            get_run_logger().warning("The result stands, but %s: %s", without, state.message)

    return run
