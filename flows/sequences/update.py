"""One batch, from a file to the store: read, plan, fit, log, register, archive, draw."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePath
from typing import TYPE_CHECKING

from flows.sequences import files
from flows.sequences.rebase import follow_up
from flows.sequences.result import OnOverlap, Result, Status
from flows.sequences.steps import Made, Steps, declared, finish, in_turn, make_link
from flows.sequences.unavailable import looking
from lindley.arrivals.storage import storage_of
from lindley.atomic import Replaced
from lindley.errors import BatchRefused, LindleyError
from lindley.names import shown_name
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.arrivals.storage import Seen
    from lindley.batch.batch import Batch
    from lindley.model.declaration import Declaration

#: Takes a file and returns what became of it.
TakeFile = Callable[[PurePath], Result | LindleyError]


@in_turn
def update(
    steps: Steps,
    workspace: Workspace,
    chain: str,
    file: str,
    accept_model_change: bool = False,
    on_overlap: OnOverlap = "refuse",
    take_earlier: TakeFile | None = None,
) -> Result:
    """Turn a file into a link; files that landed before it come first.

    Parameters
    ----------
    file
        Name of a file in the chain's landing folder, or an absolute path.
    accept_model_change
        Go on although the model's code is not the head's.
    on_overlap
        What becomes of rows of this file whose key is counted already.
    take_earlier
        Takes each of the files before this one; by default as this one is taken.

    Raises
    ------
    LindleyError
        If it, or an earlier file for a reason that is not its own, cannot become a link.
    """

    def take(older: PurePath) -> Result | LindleyError:
        try:
            return update_one(steps, workspace, chain, older, accept_model_change=accept_model_change)
        except LindleyError as error:
            return error

    path = files.locate(workspace, chain, file)
    in_order(workspace, chain, path, take_earlier or take, steps.notify)
    return update_one(
        steps, workspace, chain, path, accept_model_change=accept_model_change, on_overlap=on_overlap
    )


def in_order(
    workspace: Workspace, chain: str, path: PurePath, take: TakeFile, notify: Callable[[str], object]
) -> None:
    """Take the files that wait in the landing folder since before `path`, oldest first.

    Batches then count in the order in which they arrived, whatever the order of events and commands.

    Parameters
    ----------
    path
        The file whose turn it is; one from elsewhere has none before it.
    take
        Takes a file.
    notify
        Takes one sentence for the log.

    Raises
    ------
    LindleyError
        If one fails for a reason that is not its own: the next ones must not overtake it. One that
        is itself at fault was set aside and stops nothing.
    """
    if not files.has_landed(workspace, chain, path):
        return
    for older in files.earlier(workspace, chain, path):
        notify(f"{shown_name(older)} arrived before and comes first")
        found = take(older)
        if isinstance(found, LindleyError) and not files.at_fault(found):
            raise found


def update_one(
    steps: Steps,
    workspace: Workspace,
    chain: str,
    path: PurePath,
    *,
    accept_model_change: bool = False,
    on_overlap: OnOverlap = "refuse",
) -> Result:
    """Turn one file into a link, or state why nothing was to be done; refit where the policy asks for it.

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
        storage, landed = storage_of(workspace), files.has_landed(workspace, chain, path)
        if landed and not storage.exists(path):
            what = "is no longer in the landing folder; another run took it"
            return _nothing(chain, path, Status.GONE, what)
        if landed and not files.finished(workspace, path, steps.notify):
            return _nothing(chain, path, Status.UNFINISHED, "is still being written; the next sweep takes it")
        seen = storage.identity(path)
    try:
        result = _update(steps, workspace, chain, path, seen, accept_model_change, on_overlap)
    except LindleyError as error:
        if landed and files.at_fault(error):
            return _refused(steps, workspace, chain, path, seen, error)
        raise
    follow_up(steps, workspace, result)
    return result


def _refused(
    steps: Steps, workspace: Workspace, chain: str, path: PurePath, seen: Seen | None, error: LindleyError
) -> Result:
    """Set a landed file aside that is itself at fault, and raise; return where it is gone already."""
    if not storage_of(workspace).exists(path):
        return _nothing(chain, path, Status.GONE, "left the landing folder meanwhile; another run took it")
    aside = files.set_aside(workspace, chain, path, error, seen)
    if aside is None:
        steps.notify(f"What was refused was {error}")
        what = "is another file than the one that was refused; the next sweep takes it"
        return _nothing(chain, path, Status.UNFINISHED, what)
    steps.notify(f"{shown_name(path)} was moved to {aside.parent.parent.name}/{chain}/{aside.name}")
    raise error


def _nothing(chain: str, path: PurePath, status: Status, what: str) -> Result:
    message = f"{shown_name(path)} {what}"
    return Result(status=status, chain=chain, kind="update", file=path.name, message=message)


def _update(
    steps: Steps,
    workspace: Workspace,
    chain: str,
    path: PurePath,
    seen: Seen | None,
    accept_model_change: bool,
    on_overlap: OnOverlap,
) -> Result:
    files.check_name(path)
    declaration = declared(workspace, chain)
    landed = seen if files.has_landed(workspace, chain, path) else None
    batch = _read(steps, workspace, path, declaration, landed)
    if batch is None:
        what = "changed while it was read; the next sweep takes it"
        return _nothing(chain, path, Status.UNFINISHED, what)
    from lindley.operations.update import plan_update  # imports the numerical stack

    made = make_link(
        steps,
        workspace,
        declaration,
        plan_update,
        batch,
        accept_model_change=accept_model_change,
        on_overlap=on_overlap,
    )
    if made.plan.held is not None:
        return finish(steps, made, lambda _: "", file=path.name)
    own = made.plan.batch
    dropped = own.dropped.rows if made.registered is not None and own and own.dropped else 0
    stored = files.store(workspace, chain, path, batch, seen, steps.notify)

    def message(made: Made) -> str:
        left_out = f"; {dropped} row{' was' if dropped == 1 else 's were'} left out, counted already"
        joined = made.plan.joined if made.accepted else ()
        files = ", ".join(link.version.origin for link in joined)
        also = f"; it also counts {files}, quarantined before" if joined else ""
        return f"{shown_name(path)} is {made.place}" + also + (left_out if dropped else "")

    return finish(steps, made, message, file=path.name, dropped=dropped, stored=stored)


def _read(
    steps: Steps, workspace: Workspace, path: PurePath, declaration: Declaration, seen: Seen | None
) -> Batch | None:
    """Return the batch of a file; None when a file that landed (`seen`) is not what was read any more."""
    try:
        batch = files.read(workspace, path, declaration, seen, steps.read)
    except Replaced:
        return None
    except BatchRefused:
        if not files.is_another(workspace, path, seen):
            raise
        return None
    return None if files.is_another(workspace, path, seen) else batch
