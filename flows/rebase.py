"""The flow that refits all batches of a chain together, and compares."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows import files
from flows.refit import RefitResult, RefitSteps, refit
from flows.update_states import STATE_NAMES
from lindley.errors import LindleyError
from lindley.ledger import open_ledger
from lindley.workspace import Workspace
from tasks.ledger import register_link
from tasks.rebase import fit_rebase, log_rebase, plan_rebase, publish_audit


def _run_name() -> str:
    """Return ``rebase CHAIN`` or ``audit CHAIN``."""
    parameters = flow_run.parameters
    return f"{'audit' if parameters.get('audit') else 'rebase'} {parameters['chain']}"


def refit_steps() -> RefitSteps:
    """Return the steps of a refit as Prefect tasks."""
    return RefitSteps(
        open_ledger=open_ledger,
        plan=plan_rebase,
        fit=fit_rebase,
        log=log_rebase,
        register=register_link,
        publish=publish_audit,
        say=get_run_logger().info,
    )


@flow(name="rebase", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def rebase(chain: str, audit: bool = False, accept_model_change: bool = False) -> State[Any]:
    """Fit all batches of a chain together and register the result as its head.

    Parameters
    ----------
    chain
        Name of the chain.
    audit
        Only compare the chain with the pooled refit; nothing is registered.
    accept_model_change
        Go on although the model's code is not the head's.
    """
    workspace = Workspace.from_environment()
    try:
        with files.turn(workspace, chain):
            result = refit(
                refit_steps(), workspace, chain, audit=audit, accept_model_change=accept_model_change
            )
    except LindleyError as error:
        get_run_logger().error(str(error))
        return Failed(message=str(error), data=error)
    get_run_logger().info(result.message)
    return Completed(name=STATE_NAMES[result.status], message=result.message, data=result)


def outcome_of_refit(state: State[Any]) -> RefitResult | LindleyError:
    """Return what a run of `rebase` came to.

    Raises
    ------
    Exception
        If it failed or was stopped by anything that Lindley does not raise on purpose.
    """
    value = state.result(raise_on_failure=False)
    if isinstance(value, RefitResult | LindleyError):
        return value
    if isinstance(value, BaseException):
        raise value
    raise RuntimeError(f"The flow run ended as {state.name}: {state.message}")
