"""One batch, step by step: read, plan, fit, log, register, archive, draw. Knows neither Prefect nor MLflow.

The flow gives it Prefect tasks as steps, ``lindley update --direct`` the functions of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flows.sequences.files import (
    at_fault,
    earlier,
    finished,
    has_landed,
    is_another,
    looking,
    set_aside,
    store,
)
from flows.sequences.result import OnOverlap, Status, UpdateResult
from lindley.atomic import Identity, identity
from lindley.errors import BatchRefused, LindleyError, LostRace
from lindley.ledger.signer import signer_from_environment
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.batch.batch import Batch
    from lindley.ledger.protocol import Ledger
    from lindley.model.declaration import Declaration
    from lindley.operations.plan import LoggedLink, Outcome, Plan, Registered

#: How often a batch that lost the race for the head is fitted again.
MOST_RACES = 8


@dataclass(frozen=True, kw_only=True)
class Steps:
    """The steps of an update; see the functions of the same names in `lindley.operations.plan`.

    Parameters
    ----------
    open_ledger
        Opens the ledger of a workspace.
    draw
        Draws the pictures of links that have none, by run id and record digest; called when everything is
        registered and archived, and never fails.
    publish
        Shows the link to people; called when everything is registered and archived.
    say
        Takes one sentence for the log.
    """

    open_ledger: Callable[[Workspace], Ledger]
    read: Callable[[Path, Declaration], Batch]
    plan: Callable[[Ledger, Declaration, Batch, bool, OnOverlap], Plan]
    fit: Callable[[Plan], Outcome]
    log: Callable[[Ledger, Plan, Outcome], LoggedLink]
    register: Callable[[Ledger, LoggedLink], Registered]
    draw: Callable[[Ledger, Mapping[str, str]], object]
    publish: Callable[[Plan, Outcome, Registered], object]
    notify: Callable[[str], object]


def in_order(
    workspace: Workspace,
    chain: str,
    path: Path,
    one: Callable[[Path], UpdateResult | LindleyError],
    notify: Callable[[str], object],
) -> None:
    """Take the files that wait in the landing folder since before `path`, oldest first.

    Batches then count in the order in which they arrived, whatever the order of events and commands.

    Parameters
    ----------
    path
        The file whose turn it is; one from elsewhere has none before it.
    one
        Takes a file and returns what became of it.
    say
        Takes one sentence for the log.

    Raises
    ------
    LindleyError
        If one fails for a reason that is not its own: the next ones must not overtake it. One that
        is itself at fault was set aside and stops nothing.
    """
    if not has_landed(workspace, chain, path):
        return
    for older in earlier(workspace, chain, path):
        notify(f"{older.name} arrived before and comes first")
        found = one(older)
        if isinstance(found, LindleyError) and not at_fault(found):
            raise found


def update_one(
    steps: Steps,
    workspace: Workspace,
    chain: str,
    path: Path,
    *,
    accept_model_change: bool = False,
    on_overlap: OnOverlap = "refuse",
) -> UpdateResult:
    """Turn one file into a link, or say why nothing was to be done.

    Afterwards the file is in the store (moved when it had landed, copied from elsewhere), or in
    ``rejected/`` with its reason when it had landed and is itself at fault. Another file that took its
    name meanwhile stays for the next run.

    Raises
    ------
    LindleyError
        If there is no such chain, the file cannot become a batch, or it cannot be fitted, logged or moved.
    KeyRefused
        If the environment names a key for signatures that cannot be used.
    """
    with looking(path):
        landed = has_landed(workspace, chain, path)
        if landed and not path.exists():
            return _nothing(chain, path, "gone", "is no longer in the landing folder; another run took it")
        if landed and not finished(path, steps.notify):
            return _nothing(chain, path, "unfinished", "is still being written; the next sweep takes it")
        seen = identity(path)
    try:
        return _update(steps, workspace, chain, path, seen, accept_model_change, on_overlap)
    except LindleyError as error:
        if landed and at_fault(error) and not path.exists():
            return _nothing(chain, path, "gone", "left the landing folder meanwhile; another run took it")
        aside = set_aside(workspace, chain, path, error, seen)
        if aside is not None:
            steps.notify(f"{path.name} was moved to {aside.parent.parent.name}/{chain}/{aside.name}")
        elif landed and at_fault(error):
            steps.notify(f"What was refused was {error}")
            return _nothing(
                chain,
                path,
                "unfinished",
                "is another file than the one that was refused; the next sweep takes it",
            )
        raise


def _nothing(chain: str, path: Path, status: Status, what: str) -> UpdateResult:
    return UpdateResult(status=status, chain=chain, file=path.name, message=f"{path.name} {what}")


def _update(
    steps: Steps,
    workspace: Workspace,
    chain: str,
    path: Path,
    seen: Identity | None,
    accept_model_change: bool,
    on_overlap: OnOverlap,
) -> UpdateResult:
    declaration = load_declaration(chain, workspace.models)
    signer_from_environment()  # a key that cannot be used is told before the fit, not after it
    batch = _read(steps, path, declaration, seen if has_landed(workspace, chain, path) else None)
    if batch is None:
        return _nothing(chain, path, "unfinished", "changed while it was read; the next sweep takes it")
    ledger = steps.open_ledger(workspace)

    def attempt() -> UpdateResult | None:
        plan = steps.plan(ledger, declaration, batch, accept_model_change, on_overlap)
        if plan.noop is not None:
            result = UpdateResult(
                status="quarantined" if plan.quarantined else "unchanged",
                chain=chain,
                file=path.name,
                message=plan.noop,
            )
            result = _archived(steps, result, workspace, path, batch, seen)
            steps.draw(ledger, _at_head(plan))
            return result
        outcome = steps.fit(plan)
        for sentence in outcome.info.advice:
            steps.notify(sentence)
        registered = _write(steps, ledger, plan, outcome)
        if registered is None:
            return None
        dropped = plan.batch.dropped.rows if plan.batch.dropped else 0
        result = registered_result(path, registered, tuple(outcome.gate.reasons), dropped)
        result = _archived(steps, result, workspace, path, batch, seen)
        steps.draw(ledger, {registered.run_id: registered.record_digest} | _at_head(plan))
        steps.publish(plan, outcome, registered)
        return result

    return until_won(
        attempt,
        steps.notify,
        again="the batch is fitted again on the new head",
        lost=f"{batch.origin} lost the race for the head of {chain}",
        run="the update",
    )


def _read(steps: Steps, path: Path, declaration: Declaration, seen: Identity | None) -> Batch | None:
    """Return the batch of a file; None when a file that landed (`seen`) is not what was read any more."""
    try:
        batch = steps.read(path, declaration)
    except BatchRefused:
        if seen is not None and is_another(path, seen):
            return None
        raise
    return None if seen is not None and is_another(path, seen) else batch


def _at_head(plan: Plan) -> dict[str, str]:
    """Return the head that a plan met: without pictures if its writer was killed before it drew them."""
    return {plan.head.version.run_id: plan.head.version.record} if plan.head else {}


def until_won[R](
    attempt: Callable[[], R | None], notify: Callable[[str], object], *, again: str, lost: str, run: str
) -> R:
    """Return what an attempt at a new head came to; it is made again while other writers are first.

    Parameters
    ----------
    attempt
        Plans, fits, logs and registers; None when another writer moved the head first.
    say
        Takes one sentence for the log.
    again, lost, run
        What happens then, what happened in the end, and what is to be run again: words for people.

    Raises
    ------
    LostRace
        After `MOST_RACES` attempts.
    """
    for _ in range(MOST_RACES):
        found = attempt()
        if found is not None:
            return found
        notify(f"Another writer moved the head first; {again}")
    raise LostRace(
        f"{lost} {MOST_RACES} times",
        expected="one writer per chain most of the time",
        found="a head that moved during every fit",
        todo=f"run {run} again when fewer writers are at work; nothing is lost",
    )


def _write(steps: Steps, ledger: Ledger, plan: Plan, outcome: Outcome) -> Registered | None:
    """Log and register; None when another writer was first."""
    try:
        registered = steps.register(ledger, steps.log(ledger, plan, outcome))
    except LostRace:
        return None
    return None if registered.status == "superseded" else registered


def registered_result(
    path: Path, registered: Registered, reasons: tuple[str, ...] = (), dropped: int = 0
) -> UpdateResult:
    """Return what became of a file that was registered."""
    accepted = registered.status == "accepted"
    message = (
        f"{path.name} is link {registered.link} of {registered.chain} (version {registered.version})"
        if accepted
        else f"{path.name} is quarantined as version {registered.version} of {registered.chain}, "
        f"the head did not move: {'; '.join(reasons) or 'it failed the gate'}"
    )
    if dropped:
        message += f"; {dropped} row{' was' if dropped == 1 else 's were'} left out, counted already"
    return UpdateResult(
        status="accepted" if accepted else "quarantined",
        chain=registered.chain,
        file=path.name,
        message=message,
        dropped=dropped,
        link=registered.link,
        version=registered.version,
        run_id=registered.run_id,
        record_digest=registered.record_digest,
        run_url=registered.run_url,
        version_url=registered.version_url,
        reasons=reasons,
    )


def _archived(
    steps: Steps,
    result: UpdateResult,
    workspace: Workspace,
    path: Path,
    batch: Batch,
    seen: Identity | None,
) -> UpdateResult:
    stored = store(workspace, result.chain, path, batch, seen, steps.notify)
    return replace(result, stored=str(stored))
