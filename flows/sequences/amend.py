"""Amendments of a chain: take batches out, replace one, go back, start a branch, decide on a candidate."""

from __future__ import annotations

from collections.abc import Sequence

from flows.sequences import files
from flows.sequences.rebase import follow_up
from flows.sequences.result import Result
from flows.sequences.steps import Made, Steps, declared, finish, in_turn, make_link
from flows.sequences.unavailable import looking
from lindley.arrivals.storage import storage_of
from lindley.workspace import Workspace


@in_turn
def retract(
    steps: Steps, workspace: Workspace, chain: str, batches: Sequence[str], accept_model_change: bool = False
) -> Result:
    """Let batches no longer count: a new link, fitted as if they had never come.

    Parameters
    ----------
    batches
        Which ones; see `lindley.ledger.references.choose_batch`.

    Raises
    ------
    LindleyError
        If the chain cannot take it, or it cannot be fitted or logged.
    """
    declaration = declared(workspace, chain)
    from lindley.operations.retract import plan_retract  # imports the numerical stack

    made = make_link(
        steps, workspace, declaration, plan_retract, batches, accept_model_change=accept_model_change
    )
    return finish(steps, made, _message)


@in_turn
def correct(
    steps: Steps,
    workspace: Workspace,
    chain: str,
    old: str,
    file: str,
    accept_model_change: bool = False,
) -> Result:
    """Let a file count in the place of a batch; afterwards a copy of it is in the store.

    Parameters
    ----------
    old
        The batch that is replaced; see `lindley.ledger.references.choose_batch`.
    file
        Name of a file in the chain's folder of corrections, or an absolute path outside the landing folder.

    Raises
    ------
    NameRefused
        If the file lies in the landing folder.
    LindleyError
        As in `retract`, or if the file cannot become a batch.
    """
    path = files.locate_correction(workspace, chain, file)
    files.check_name(path)
    with looking(path):
        files.check_correction(workspace, chain, path)
        seen = storage_of(workspace).identity(path)
    declaration = declared(workspace, chain)
    batch = files.read_still(workspace, path, declaration, seen, steps.read)
    from lindley.operations.retract import plan_correct  # imports the numerical stack

    # The declaration that read the batch also fits it.
    made = make_link(
        steps, workspace, declaration, plan_correct, old, batch, accept_model_change=accept_model_change
    )
    stored = files.store(workspace, chain, path, batch, seen, steps.notify)
    return finish(steps, made, _message, stored=stored)


@in_turn
def rollback(steps: Steps, workspace: Workspace, chain: str, link: str) -> Result:
    """Go back to the belief of an earlier link: a new link with that belief.

    Parameters
    ----------
    link
        Which one; see `lindley.ledger.references.choose_link`.

    Raises
    ------
    LindleyError
        If there is no such link, or it cannot be logged.
    """
    declaration = declared(workspace, chain)
    from lindley.operations.rollback import plan_rollback  # imports the numerical stack

    return finish(steps, make_link(steps, workspace, declaration, plan_rollback, link), _message)


@in_turn
def branch(steps: Steps, workspace: Workspace, chain: str, link: str, name: str) -> Result:
    """Start a what-if chain from a link of a chain, which stays as it is.

    Parameters
    ----------
    link
        Which one; see `lindley.ledger.references.choose_link`.
    name
        Name of the branch; its full name is ``CHAIN--NAME``.

    Raises
    ------
    LindleyError
        If there is no such chain or link, or another chain has the name.
    """
    from lindley.operations.branch import branch_name, plan_branch  # imports the numerical stack

    declaration = declared(workspace, branch_name(chain, name))
    return finish(steps, make_link(steps, workspace, declaration, plan_branch, chain, link), _message)


@in_turn
def approve(steps: Steps, workspace: Workspace, chain: str, version: str, who: str, why: str) -> Result:
    """Let a candidate or a quarantined version become the head, with the belief that was fitted.

    Parameters
    ----------
    version
        Which one; see `lindley.operations.approval.decide.plan_decision`.
    who, why
        Who decides so, and why.

    Raises
    ------
    LindleyError
        If there is no such version, it cannot be decided so, or it cannot be logged.
    """
    made = _decision(steps, workspace, chain, version, approve=True, who=who, why=why)
    result = finish(steps, made, _decided)
    follow_up(steps, workspace, result)
    return result


@in_turn
def reject(steps: Steps, workspace: Workspace, chain: str, version: str, who: str, why: str) -> Result:
    """Record that a candidate or a quarantined version does not become the head; see `approve`."""
    made = _decision(steps, workspace, chain, version, approve=False, who=who, why=why)
    return finish(steps, made, _decided)


def _decision(
    steps: Steps, workspace: Workspace, chain: str, version: str, *, approve: bool, who: str, why: str
) -> Made:
    """Plan, log and register what a person decided."""
    declaration = declared(workspace, chain)
    from lindley.operations.approval.decide import plan_decision  # imports the numerical stack

    return make_link(steps, workspace, declaration, plan_decision, version, approve=approve, who=who, why=why)


def _decided(made: Made) -> str:
    decision, registered = made.plan.decision, made.registered
    if decision is None or registered is None:
        return ""
    number, origin = decision.version.number, decision.version.origin
    what = f"{origin}, version {number}," if origin else f"Version {number}"
    if made.accepted:
        return f"{what} was approved by {decision.who} and is {made.place}"
    return f"{what} was rejected by {decision.who}; the head did not move"


def _message(made: Made) -> str:
    what, registered = _what(made), made.registered
    if made.plan.kind == "branch" and registered is not None:
        return f"{what}; its own first link is {registered.link} (version {registered.version})"
    return f"{what}: {made.place}" if made.accepted else f"{what}, but that is {made.place}"


def _what(made: Made) -> str:
    """State what an amendment did, without where the result is."""
    from lindley.ledger.record import parse
    from lindley.ledger.references import shown  # with the ledger's libraries
    from lindley.report.text import counted

    plan = made.plan
    gone = ", ".join(shown(link) for link in plan.retracted)
    if plan.target is not None:
        if plan.kind == "branch":
            source = parse(plan.genesis)["branch"]["chain"]
            return f"{plan.declaration.name} continues {source} from link {plan.target.number}"
        how = f"the belief is that of link {plan.target.number}"
    elif plan.members is not None:
        how = f"{counted(len(plan.members.work), 'member')} fitted again"
    else:
        count = made.fitted
        how = f"{count} batch{'' if count == 1 else 'es'} fitted{' together' if count > 1 else ''}"
    if plan.batch is not None:
        return f"{plan.batch.origin} counts in the place of {gone}, {how}"
    if not gone:
        return f"The chain went back, {how}"
    return f"{gone} no longer count{'s' if len(plan.retracted) == 1 else ''}, {how}"
