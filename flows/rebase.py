"""The flow that refits all batches of a chain together, and compares."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.sequences import files
from flows.sequences.rebase import RefitResult, RefitSteps, refit
from flows.states import completed, failed, value_of
from lindley.errors import LindleyError
from lindley.ledger.backend import open_ledger
from lindley.workspace import Workspace
from tasks.link import register_link
from tasks.plots import draw
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
        draw=draw,
        publish=publish_audit,
        notify=get_run_logger().info,
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
        return failed(error)
    return completed(result)


def outcome_of_refit(state: State[Any]) -> RefitResult | LindleyError:
    """Return what a run of `rebase` came to; see `flows.states.value_of`."""
    return value_of(state, RefitResult)
