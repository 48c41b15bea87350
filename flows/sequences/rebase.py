"""A pooled refit, step by step: plan, fit, compare, register. Knows neither Prefect nor MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from flows.sequences.result import UpdateResult
from flows.sequences.update import until_won
from lindley.errors import LindleyError
from lindley.ledger.signer import signer_from_environment
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.ledger.protocol import Ledger
    from lindley.model.declaration import Declaration
    from lindley.operations.plan import LoggedLink, Outcome, Registered
    from lindley.operations.rebase import RebasePlan


@dataclass(frozen=True, kw_only=True)
class RefitSteps:
    """The steps of a pooled refit; see the functions of the same names in `lindley.operations.rebase`.

    Parameters
    ----------
    draw
        Draws the pictures of links that have none; see `flows.sequences.update.Steps`.
    publish
        Shows the audit to people.
    say
        Takes one sentence for the log.
    """

    open_ledger: Callable[[Workspace], Ledger]
    plan: Callable[[Ledger, Declaration, bool], RebasePlan]
    fit: Callable[[RebasePlan], Outcome]
    log: Callable[[Ledger, RebasePlan, Outcome], LoggedLink]
    register: Callable[[Ledger, LoggedLink], Registered]
    draw: Callable[[Ledger, Mapping[str, str]], object]
    publish: Callable[[str, Outcome], object]
    notify: Callable[[str], object]


@dataclass(frozen=True)
class RefitResult:
    """What became of a pooled refit.

    Parameters
    ----------
    status
        ``accepted``: the new head. ``quarantined``: kept with the reasons, the head stays. ``audited``:
        compared, nothing was registered.
    chain
        Name of the chain.
    message
        One sentence for people.
    batches
        How many batches were fitted together.
    figures
        Scalar results of the comparison.
    rows
        The comparison, one row per parameter (see `lindley.operations.rebase.audit_table`).
    link, version, run_id
        Where the refit is; None where there is none.
    reasons
        Why the gate refused the fit.
    """

    status: Literal["accepted", "quarantined", "audited"]
    chain: str
    message: str
    batches: int
    metrics: dict[str, float]
    rows: list[dict[str, Any]] = field(default_factory=list)
    link: int | None = None
    version: int | None = None
    run_id: str | None = None
    reasons: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__} | {
            "reasons": list(self.reasons)
        }


def refit(
    steps: RefitSteps,
    workspace: Workspace,
    chain: str,
    *,
    audit: bool = False,
    accept_model_change: bool = False,
) -> RefitResult:
    """Fit all batches of a chain together, and register the result unless it is only an audit.

    Raises
    ------
    LindleyError
        If there is no such chain, or it cannot be fitted or logged.
    """
    declaration = load_declaration(chain, workspace.models)
    signer_from_environment()  # a key that cannot be used is told before the fit, not after it
    ledger = steps.open_ledger(workspace)

    def attempt() -> RefitResult | None:
        plan = steps.plan(ledger, declaration, accept_model_change)
        outcome = steps.fit(plan)
        if audit:
            steps.publish(chain, outcome)
            found = _result("audited", chain, len(plan.batches), outcome, None)
            _measured(ledger, plan.head_link.version.run_id, found.metrics, steps.notify)
            return found
        registered = steps.register(ledger, steps.log(ledger, plan, outcome))
        if registered.status == "superseded":
            return None
        head = plan.head_link.version
        steps.draw(ledger, {registered.run_id: registered.record_digest, head.run_id: head.record})
        steps.publish(chain, outcome)
        accepted = registered.status == "accepted"
        status: Literal["accepted", "quarantined"] = "accepted" if accepted else "quarantined"
        return _result(status, chain, len(plan.batches), outcome, registered)

    return until_won(
        attempt,
        steps.notify,
        again="the refit is made again with its batch",
        lost=f"The refit lost the race for the head of {chain}",
        run="it",
    )


def _measured(
    ledger: Ledger, run_id: str, metrics: dict[str, float], notify: Callable[[str], object]
) -> None:
    """Add an audit's figures to the metrics of the head's run, as ``audit/error`` and so on."""
    try:
        ledger.log_metrics(run_id, {k.replace("audit_", "audit/", 1): v for k, v in metrics.items()})
    except LindleyError as error:  # who may only read may audit
        notify(f"The audit is not among the metrics of the head's run: {error}")


def follow_up(steps: RefitSteps, workspace: Workspace, result: UpdateResult) -> RefitResult | None:
    """Refit a chain whose policy asks for it after an update; None where it does not.

    The update stands whatever becomes of the refit: an error is said, not raised. Its code is the head's now:
    a model file that was saved since is a change that nobody has accepted.
    """
    if result.status != "accepted":
        return None
    try:
        return _if_due(steps, workspace, result.chain)
    except LindleyError as error:
        steps.notify(f"The update stands, but the pooled refit failed: {error}")
        return None


def _if_due(steps: RefitSteps, workspace: Workspace, chain: str) -> RefitResult | None:
    """Refit a chain where its policy asks for it."""
    declaration = load_declaration(chain, workspace.models)
    if not declaration.policy.refits:
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


def _result(
    status: Literal["accepted", "quarantined", "audited"],
    chain: str,
    batches: int,
    outcome: Outcome,
    registered: Registered | None,
) -> RefitResult:
    """Collect what became of a refit."""
    from lindley.report.tables import json_rows

    metrics = {k: v for k, v in outcome.metrics.items() if k.startswith("audit_")}
    table = outcome.audit
    worst = ""
    if table is not None and len(table):
        errors = table["error"].abs()
        worst = f"; the chain was off by at most {errors.max():.3f} pooled sds ({errors.idxmax()})"
    what = f"{batches} batches of {chain} were fitted together"
    reasons = tuple(outcome.gate.reasons)
    if status == "accepted" and registered is not None:
        what += f" and are link {registered.link} (version {registered.version})"
    elif status == "quarantined" and registered is not None:
        what += f", quarantined as version {registered.version}: {'; '.join(reasons)}"
    elif reasons:
        what += f", but the fit would fail the gate: {'; '.join(reasons)}"
    return RefitResult(
        status=status,
        chain=chain,
        message=what + worst,
        batches=batches,
        metrics=metrics,
        rows=json_rows(table) if table is not None else [],
        link=registered.link if registered else None,
        version=registered.version if registered else None,
        run_id=registered.run_id if registered else None,
        reasons=reasons,
    )
