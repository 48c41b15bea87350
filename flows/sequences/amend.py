"""An act on a chain, step by step: plan, fit, log, register, draw. Knows neither Prefect nor MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from flows.sequences import files
from flows.sequences.update import until_won
from lindley.atomic import identity
from lindley.ledger.signer import signer_from_environment
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.batch.batch import Batch
    from lindley.ledger.protocol import Ledger
    from lindley.model.declaration import Declaration
    from lindley.operations.amendment import ActPlan
    from lindley.operations.plan import LoggedLink, Outcome, Registered

PlanAct = Callable[["Ledger", "Declaration"], "ActPlan"]


@dataclass(frozen=True, kw_only=True)
class ActSteps:
    """The steps of an act; see the functions of the same names in `lindley.operations`.

    Parameters
    ----------
    read
        Reads the file of a correction.
    draw
        Draws the pictures of links that have none; see `flows.sequences.update.Steps`.
    say
        Takes one sentence for the log.
    """

    open_ledger: Callable[[Workspace], Ledger]
    read: Callable[[Path, Declaration], Batch]
    fit: Callable[[ActPlan], Outcome | None]
    log: Callable[[Ledger, ActPlan, Outcome | None], LoggedLink]
    register: Callable[[Ledger, LoggedLink], Registered]
    draw: Callable[[Ledger, Mapping[str, str]], object]
    notify: Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class ActResult:
    """What became of an act.

    Parameters
    ----------
    status
        ``accepted``: the new head. ``quarantined``: kept with the reasons, the head stays. ``unchanged``:
        there was nothing to do.
    chain, kind
        Name of the chain, and what was done.
    message
        One sentence for people.
    retracted
        Numbers of the links whose batches no longer count.
    fitted
        How many batches were fitted together; 0 where an earlier belief was taken.
    link, version, run_id, record_digest, run_url, version_url
        Where the new link is; None where there is none.
    reasons
        Why the gate refused the fit.
    stored
        Where the file of a correction was archived; None for other acts.
    """

    status: Literal["accepted", "quarantined", "unchanged"]
    chain: str
    kind: str
    message: str
    retracted: tuple[int, ...] = ()
    fitted: int = 0
    link: int | None = None
    version: int | None = None
    run_id: str | None = None
    record_digest: str | None = None
    run_url: str | None = None
    version_url: str | None = None
    reasons: tuple[str, ...] = ()
    stored: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return asdict(self) | {"reasons": list(self.reasons), "retracted": list(self.retracted)}

    def runs(self) -> dict[str, str]:
        """Return the record digest of the new link by its run id; empty where there is none."""
        return {self.run_id: self.record_digest} if self.run_id and self.record_digest else {}


def act(
    steps: ActSteps,
    workspace: Workspace,
    chain: str,
    plan_act: PlanAct,
    *,
    archive: Callable[[ActResult], ActResult] = lambda result: result,
) -> ActResult:
    """Do something to a chain, or say why nothing was to be done.

    Parameters
    ----------
    archive
        What is done once the result is known, before its pictures are drawn.

    Raises
    ------
    LindleyError
        If there is no such chain, or it cannot take the act, or it cannot be fitted or logged.
    """
    declaration = load_declaration(chain, workspace.models)
    signer_from_environment()  # a key that cannot be used is told before the fit, not after it
    ledger = steps.open_ledger(workspace)

    def attempt() -> tuple[ActResult, dict[str, str]] | None:
        plan = plan_act(ledger, declaration)
        head = {plan.head_link.version.run_id: plan.head_link.version.record}
        if plan.noop is not None:
            nothing = ActResult(
                status="quarantined" if plan.quarantined else "unchanged",
                chain=chain,
                kind=plan.kind,
                message=plan.noop,
            )
            return nothing, head
        outcome = steps.fit(plan)
        registered = steps.register(ledger, steps.log(ledger, plan, outcome))
        return None if registered.status == "superseded" else (_result(plan, outcome, registered), head)

    result, head = until_won(
        attempt,
        steps.notify,
        again="this is done again on the new head",
        lost=f"The race for the head of {chain} was lost",
        run="it",
    )
    result = archive(result)
    # The head has no pictures yet if its writer was killed before it drew them.
    steps.draw(ledger, result.runs() | head)
    return result


def correct_one(
    steps: ActSteps,
    workspace: Workspace,
    chain: str,
    path: Path,
    plan_correct: Callable[[Ledger, Declaration, Batch], ActPlan],
) -> ActResult:
    """Let a file count in the place of a batch; afterwards a copy of it is in the store.

    Raises
    ------
    NameRefused
        If the file lies in the landing folder.
    LindleyError
        As in `act`, or if the file cannot become a batch.
    """
    with files.looking(path):
        files.check_correction(workspace, chain, path)
        seen = identity(path)
    declaration = load_declaration(chain, workspace.models)
    batch = steps.read(path, declaration)

    def plan(ledger: Ledger, _loaded_since: Declaration) -> ActPlan:
        return plan_correct(ledger, declaration, batch)  # what read the batch also fits it

    def archive(result: ActResult) -> ActResult:
        stored = files.store(workspace, chain, path, batch, seen, steps.notify)
        return replace(result, stored=str(stored))

    return act(steps, workspace, chain, plan, archive=archive)


def _result(plan: ActPlan, outcome: Outcome | None, registered: Registered) -> ActResult:
    accepted = registered.status == "accepted"
    reasons = tuple(outcome.gate.reasons) if outcome is not None else ()
    fitted = int(outcome.metrics["replayed"]) + 1 if outcome is not None else 0
    what = _done(plan, fitted)
    message = (
        f"{what}: link {registered.link} of {registered.chain} (version {registered.version})"
        if accepted
        else f"{what}, but that is quarantined as version {registered.version} of {registered.chain} and the "
        f"head did not move: {'; '.join(reasons)}"
    )
    return ActResult(
        status="accepted" if accepted else "quarantined",
        chain=registered.chain,
        kind=plan.kind,
        message=message,
        retracted=tuple(link.number for link in plan.retracted) if accepted else (),
        fitted=fitted,
        link=registered.link,
        version=registered.version,
        run_id=registered.run_id,
        record_digest=registered.record_digest,
        run_url=registered.run_url,
        version_url=registered.version_url,
        reasons=reasons,
    )


def _done(plan: ActPlan, count: int) -> str:
    """Say what an act did, without where the result is."""
    from lindley.ledger.references import shown  # with the ledger's libraries

    gone = ", ".join(shown(link) for link in plan.retracted)
    how = f"{count} batch{'' if count == 1 else 'es'} fitted{' together' if count > 1 else ''}"
    if plan.target is not None:
        how = f"the belief is that of link {plan.target.number}"
    if plan.batch is not None:
        return f"{plan.batch.origin} counts in the place of {gone}, {how}"
    if not gone:
        return f"The chain went back, {how}"
    return f"{gone} no longer count{'s' if len(plan.retracted) == 1 else ''}, {how}"
