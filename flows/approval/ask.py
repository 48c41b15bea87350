"""The flow that asks a person to decide on a candidate, by a form in Prefect's pages.

Its run suspends: no process waits, and the form's answer starts it anew. Time decides nothing: it waits until
the form is filled, or until the decision was made elsewhere. An automation that marks runs without heartbeats
as crashed must leave it out (docs/adr/0067).
"""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run

from flows.amend import approve, reject
from flows.states import ended, failed, outcome_of
from lindley.errors import LindleyError


class Decision(RunInput):
    """What the form asks."""

    verdict: Literal["approve", "reject"]
    who: str
    why: str


def _run_name() -> str:
    given = flow_run.parameters
    return f"decide {given['chain']}: version {given['version']}"


@flow(name="decide", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def decide(chain: str, version: str) -> State[Any]:
    """Ask a person to approve or to reject a candidate, and do so.

    Parameters
    ----------
    chain
        Name of the chain.
    version
        Number of the version, or beginning of its record's digest.
    """
    form = Decision.with_initial_data(
        description=f"Shall version {version} of the chain {chain} become its head? Name and reason become "
        "part of the record."
    )
    # The key is that of the first time: the run that the answer starts finds it.
    given = suspend_flow_run(wait_for_input=form, key="decision")
    decided = approve if given.verdict == "approve" else reject
    found = outcome_of(decided(chain, version, given.who, given.why, return_state=True))
    return failed(found) if isinstance(found, LindleyError) else ended(found)
