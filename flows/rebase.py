"""The flow that refits all batches of a chain together, and compares."""

from __future__ import annotations

from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.sequences import rebase as sequences
from flows.steps import run_sequence


def _run_name() -> str:
    """Return ``rebase CHAIN`` or ``audit CHAIN``."""
    parameters = flow_run.parameters
    return f"{'audit' if parameters.get('audit') else 'rebase'} {parameters['chain']}"


@flow(name="rebase", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def rebase(
    chain: str, audit: bool = False, accept_model_change: bool = False, member: str | None = None
) -> State[Any]:
    """Fit all batches of a chain together and register the result as its head.

    Parameters
    ----------
    chain
        Name of the chain.
    audit
        Only compare the chain with the pooled refit; nothing is registered.
    accept_model_change
        Go on although the model's code is not the head's.
    member
        For an audit of a panel, the canonical key (JSON) of the only member that is fitted.
    """
    return run_sequence(sequences.rebase, chain, audit, accept_model_change, member)
