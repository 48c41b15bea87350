"""The flow that asks a person to decide on a candidate, by a form in Prefect's pages.

Its run suspends: no process waits, and the form's answer starts it anew. Time decides nothing: it waits until
the form is filled, or until the decision was made elsewhere. The automation that marks runs without
heartbeats as crashed leaves it out (docs/adr/0067).
"""

from __future__ import annotations

from typing import Any, Literal

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.runtime import flow_run
from pydantic import Field

from flows.amend import approve, reject
from flows.sequences.result import Result, Status
from flows.states import ended, failed, outcome_of
from lindley.errors import LindleyError
from lindley.ledger.backend import open_ledger
from lindley.ledger.chain import Chain, Version
from lindley.ledger.reading import find_chain
from lindley.operations.approval.candidates import MOST_WHO, MOST_WHY, choose_version, settled
from lindley.report.markdown import code
from lindley.workspace import Workspace

_KEY = "decision"


class Decision(RunInput):
    """What the form asks; the server refuses an answer without a name or a reason."""

    verdict: Literal["approve", "reject"]
    who: str = Field(min_length=1, max_length=MOST_WHO, pattern=r"\S", description="Your name")
    why: str = Field(min_length=1, max_length=MOST_WHY, pattern=r"\S", description="Your reason")


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
    try:
        found = find_chain(open_ledger(Workspace.from_environment()), chain)
        chosen = choose_version(found, version)
    except LindleyError as error:
        return failed(error)
    done = settled(found, chosen)
    if done and not _answered():
        return ended(Result(status=Status.UNCHANGED, chain=chain, kind=chosen.kind, message=done))
    form = Decision.with_initial_data(description=_question(chain, found, chosen))
    # The key is that of the first time: the run that the answer starts finds it.
    given = suspend_flow_run(wait_for_input=form, key=_KEY)
    decided = approve if given.verdict == "approve" else reject
    came = outcome_of(decided(chain, version, given.who, given.why, return_state=True))
    return failed(came) if isinstance(came, LindleyError) else ended(came)


def _answered() -> bool:
    """Return whether this run was suspended before: an answer that comes too late gets the reason."""
    context = FlowRunContext.get()
    run = context.flow_run if context is not None else None
    return run is not None and _KEY in (run.empirical_policy.pause_keys or ())


def _question(name: str, chain: Chain, version: Version) -> str:
    what = f" ({code(version.origin)})" if version.origin else f" ({version.kind})"
    asked = f"Shall version {version.number}{what} of the chain {name} become its head?"
    stale = " The head moved since it was fitted: it can only be rejected, or fitted again."
    moved = version.previous != chain.head_digest
    return f"{asked}{stale if moved else ''} Name and reason become part of the record."
