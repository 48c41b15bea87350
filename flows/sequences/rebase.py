"""A pooled refit, step by step: plan, fit, compare, register; and when an update asks for one."""

from __future__ import annotations

from flows.sequences.result import Result, Status
from flows.sequences.steps import Made, Steps, declared, finish, in_turn, make_link
from lindley.errors import LindleyError
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace


@in_turn
def rebase(
    steps: Steps,
    workspace: Workspace,
    chain: str,
    audit: bool = False,
    accept_model_change: bool = False,
    member: str | None = None,
) -> Result:
    """Fit all batches of a chain together, and register the result as its head; see `refit`."""
    return refit(steps, workspace, chain, audit=audit, accept_model_change=accept_model_change, member=member)


def refit(
    steps: Steps,
    workspace: Workspace,
    chain: str,
    *,
    audit: bool = False,
    accept_model_change: bool = False,
    member: str | None = None,
) -> Result:
    """Fit all batches of a chain together, and register the result unless it is only an audit.

    Parameters
    ----------
    member
        For an audit of a panel, the canonical key of the only member that is fitted.

    Raises
    ------
    LindleyError
        If there is no such chain, or it cannot be fitted or logged.
    """
    declaration = declared(workspace, chain)
    from lindley.operations.audit import audit_metrics  # imports the numerical stack
    from lindley.operations.rebase import plan_rebase
    from lindley.panel.key import read_key
    from lindley.report.tables import json_rows

    made = make_link(
        steps,
        workspace,
        declaration,
        plan_rebase,
        register=not audit,
        accept_model_change=accept_model_change,
        whole=audit,
        member=None if member is None else read_key(member, declaration.by),
    )
    outcome = made.outcome
    table = outcome.audit if outcome is not None else None
    metrics = {} if outcome is None else {k: v for k, v in outcome.metrics.items() if k.startswith("audit_")}
    if declaration.by and table is not None:
        metrics = audit_metrics(table)
    if audit and member is None:
        _add_metrics(steps, made, metrics)
    rows = json_rows(table) if table is not None else []
    return finish(steps, made, _message, metrics=metrics, rows=rows)


def _message(made: Made) -> str:
    """State what became of a refit, and how far off the chain was."""
    count = len(made.plan.batches or made.plan.origin.links)
    what = f"{count} batches of {made.plan.declaration.name} were fitted together"
    if made.registered is not None:
        what += f" and are {made.place}" if made.accepted else f"; that is {made.place}"
    elif made.reasons:
        what += f", but the fit would fail the gate: {'; '.join(made.reasons)}"
    table = made.outcome.audit if made.outcome is not None else None
    if table is not None and len(table):
        errors = table["error"].abs()
        what += f"; the chain was off by at most {errors.max():.3f} pooled sds ({errors.idxmax()})"
    return what


def _add_metrics(steps: Steps, made: Made, metrics: dict[str, float]) -> None:
    """Add an audit to the metrics of the head's run, as ``audit/error`` and so on."""
    run_id = made.plan.chain.links[-1].version.run_id
    try:
        made.ledger.log_metrics(run_id, {k.replace("audit_", "audit/", 1): v for k, v in metrics.items()})
    except LindleyError as error:  # a user who may only read may audit
        steps.notify(f"The audit is not among the metrics of the head's run: {error}")


def follow_up(steps: Steps, workspace: Workspace, result: Result) -> Result | None:
    """Refit a chain whose policy asks for it after an update; None where it does not.

    The update stands whatever becomes of the refit: an error is reported, not raised. Its code is the head's
    now: a model file that was saved since is a change that has not been accepted.
    """
    if result.status != Status.ACCEPTED:
        return None
    try:
        return _if_due(steps, workspace, result.chain)
    except LindleyError as error:
        steps.notify(f"The update stands, but the pooled refit failed: {error}")
        return None


def _if_due(steps: Steps, workspace: Workspace, chain: str) -> Result | None:
    """Refit a chain where its policy asks for it."""
    declaration = load_declaration(chain, workspace.models)
    if declaration.by or not declaration.policy.refits:
        return None
    from lindley.ledger.reading import find_chain  # with the ledger's libraries
    from lindley.operations.rebase import rebase_due

    why = rebase_due(find_chain(steps.open_ledger(workspace), chain), declaration)
    if why is None:
        return None
    steps.notify(f"A pooled refit is due: {why}")
    found = refit(steps, workspace, chain)
    steps.notify(found.message)
    return found
