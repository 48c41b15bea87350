"""Resolve file references, list the files that come first, archive or reject a file afterwards."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from lindley import failpoints
from lindley.arrivals.landing import Arrival, Listing, archive, arrivals, is_complete
from lindley.arrivals.rejection import reject
from lindley.atomic import Identity, Replaced, give_back, identity
from lindley.errors import BatchRefused, FileUnavailable, LindleyError, NameRefused
from lindley.names import check_chain_name, is_text, printable, shown_name
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.batch.batch import Batch

#: Seconds that an update waits for another one of the same chain on this machine.
TURN_SECONDS = 1800.0

_warn = logging.getLogger("lindley.files").warning


def locate(workspace: Workspace, chain: str, file: str) -> Path:
    """Return the path of a file reference: a plain name lies in the chain's landing folder.

    Raises
    ------
    NameRefused
        If it is neither a plain file name nor an absolute path: the meaning of a relative path depends on
        the folder of the process, which the user of a worker does not choose.
    """
    return _locate(workspace.landing, chain, file)


def locate_correction(workspace: Workspace, chain: str, file: str) -> Path:
    """Return the file of a correction: a plain name lies in the chain's folder of corrections.

    Raises
    ------
    NameRefused
        If it is neither a plain file name nor an absolute path, or there is such a file in the landing
        folder only; see `check_correction`.
    """
    path = _locate(workspace.corrections, chain, file)
    landed = locate(workspace, chain, file)
    with looking(path):
        if landed.exists() and not path.exists():
            check_correction(workspace, chain, landed)
    return path


def check_correction(workspace: Workspace, chain: str, path: Path) -> None:
    """Refuse a file in the landing folder, where the watcher and sweeps take it as an update.

    Raises
    ------
    NameRefused
        If it lies there, or is a link to what lies there.
    """
    landing = workspace.landing.resolve()
    if any(place.is_relative_to(landing) for place in (path.parent.resolve(), path.resolve())):
        raise NameRefused(
            f"{shown_name(path)} cannot replace a batch from where it lies",
            expected="a file outside the landing folder, from which files are taken as updates",
            found="a file in the landing folder",
            todo=f"move it into {workspace.corrections / chain}, and name it again",
        )


def _locate(folder: Path, chain: str, file: str) -> Path:
    check_chain_name(chain)
    path = Path(file)
    if path.is_absolute():
        return path
    if path.name != file or file in {"", ".", ".."}:
        raise NameRefused(
            "A file name was refused",
            expected=f"the name of a file in the chain's {folder.name} folder, or an absolute path",
            found=repr(file)[:80],
            todo="give the absolute path of the file",
        )
    return folder / chain / file


def has_landed(workspace: Workspace, chain: str, path: Path) -> bool:
    """Return whether the file itself, not a link to it, lies in the chain's landing folder."""
    return not path.is_symlink() and path.parent.resolve() == (workspace.landing / chain).resolve()


def finished(path: Path, notify: Callable[[str], object] = _warn) -> bool:
    """Return whether the file's writer has finished; waits a second for one that just changed.

    One that cannot be inspected counts as finished, and `notify` gets a sentence: reading it then fails, and
    its chain waits for it.
    """
    try:
        return is_complete(path, clock=time.time, sleep=time.sleep)
    except OSError as error:
        notify(f"{shown_name(path)} cannot be inspected: {error.strerror or error}")
        return True


def arrived(workspace: Workspace) -> Listing:
    """List the landing folder; a file that a killed process was about to remove has its name again."""
    with suppress(OSError):  # the listing reports what cannot be inspected
        for folder in workspace.landing.glob("*"):
            give_back(folder)
    return arrivals(workspace.landing)


def waiting(workspace: Workspace, chain: str) -> list[Arrival]:
    """Return the complete files in the chain's landing folder, oldest first.

    A file that is still being written is left out: it changes again, so it is not older. A file whose name is
    not UTF-8 is set aside.

    Raises
    ------
    FileUnavailable
        If the folder, or a file in it, cannot be inspected: the order of the files is then unknown.
    """
    listing, folder = arrived(workspace), workspace.landing / chain
    for entry in listing.ignored:
        if entry.error is not None and folder in (entry.path, entry.path.parent):
            raise entry.error
    found = [arrival for arrival in listing if arrival.chain == chain]
    ready = [arrival for arrival in found if finished(arrival.path)]
    return [arrival for arrival in ready if not refuse_name(workspace, arrival, _warn)]


def check_name(path: Path) -> None:
    """Check that a file's name can be recorded.

    Raises
    ------
    BatchRefused
        If it is not UTF-8: neither records nor events nor pages can hold it.
    """
    if not is_text(path.name):
        raise BatchRefused(
            f"The name of {shown_name(path)} was refused",
            expected="a file name in UTF-8",
            found=f"other bytes in it: {printable(path.name)[:80]}",
            todo="rename the file, and put it into the landing folder again",
        )


def refuse_name(workspace: Workspace, arrival: Arrival, notify: Callable[[str], object]) -> bool:
    """Set a file aside whose name cannot be recorded; return whether it is one.

    No run can be asked for such a file, because a run is given its name. Where it cannot be moved, it stays,
    and the other files do not wait for it.
    """
    try:
        check_name(arrival.path)
        return False
    except BatchRefused as error:
        try:
            aside = set_aside(workspace, arrival.chain, arrival.path, error)
            notify(f"{error}" + (f" It is now {aside.name} in rejected/{arrival.chain}/" if aside else ""))
        except FileUnavailable as cause:
            notify(str(cause))
        return True


def earlier(workspace: Workspace, chain: str, path: Path) -> list[Path]:
    """Return the complete files that arrived in the chain's landing folder before `path`."""
    names = [arrival.path for arrival in waiting(workspace, chain)]
    mine = [index for index, name in enumerate(names) if name.name == path.name]
    return names[: mine[0]] if mine else []


def store(
    workspace: Workspace,
    chain: str,
    path: Path,
    batch: Batch,
    seen: Identity | None,
    notify: Callable[[str], object],
) -> Path:
    """Archive a file under its batch's digest: moved when it has landed, copied from elsewhere.

    Where another file took its name after it was read, the batch is written to the store as Parquet, and
    the other file stays for the next run. The batch of a folder is written likewise; the folder stays.

    Parameters
    ----------
    batch
        What was read of the file.
    seen
        Which file that was; None where that is not known.
    notify
        Takes one sentence for the log.

    Raises
    ------
    FileUnavailable
        If it cannot be moved or copied; it stays.
    """
    with asking(
        f"{shown_name(path)} was taken, but cannot be archived",
        todo="make its folder and the store writable; the next run of this file archives it",
    ):
        landed = has_landed(workspace, chain, path)
        if path.is_dir():
            return _written(workspace, chain, batch)
        try:
            if seen is None:
                raise Replaced(path)
            stored = archive(path, workspace.store, chain, batch.digest, keep=not landed, seen=seen)
        except (FileNotFoundError, Replaced):
            stored = _written(workspace, chain, batch)
            notify(f"{shown_name(path)} was replaced; the rows that were read of it are in the store")
        failpoints.reach("archived")
        if landed and path.exists():
            notify(f"{shown_name(path)} is now another file, which is left for the next run")
        return stored


def _written(workspace: Workspace, chain: str, batch: Batch) -> Path:
    """Write a batch to the store as Parquet and return where it is."""
    from lindley.batch.batch import write_batch  # imports pandas and Arrow

    stored = workspace.store / chain / f"{batch.digest}.parquet"
    stored.parent.mkdir(parents=True, exist_ok=True)
    write_batch(batch, stored)
    return stored


def looking(path: Path) -> AbstractContextManager[None]:
    """Turn what the operating system refuses while a file is inspected into a `FileUnavailable`."""
    return asking(f"{shown_name(path)} cannot be inspected", todo="check its permissions and its disk")


@contextmanager
def asking(happened: str, *, todo: str) -> Iterator[None]:
    """Turn what the operating system refuses in the block into a `FileUnavailable`.

    Raises
    ------
    FileUnavailable
        For any `OSError`.
    """
    try:
        yield
    except OSError as error:
        raise FileUnavailable(happened, error, todo=todo) from error


def at_fault(error: LindleyError) -> bool:
    """Return whether the file itself is at fault: it cannot become a batch, now or later."""
    return isinstance(error, BatchRefused)


def set_aside(
    workspace: Workspace, chain: str, path: Path, error: LindleyError, seen: Identity | None = None
) -> Path | None:
    """Move a landed file that is itself at fault to ``rejected/`` and return where it is.

    A file from elsewhere stays where it is, and so do one that fails for a reason that is not its own
    (the model, the ledger), since skipping it would break the order of the batches, and another one that
    took the name since.

    Parameters
    ----------
    seen
        Which file was refused; None takes whatever is there.

    Raises
    ------
    FileUnavailable
        If it cannot be moved; it stays.
    """
    if not at_fault(error) or not has_landed(workspace, chain, path):
        return None
    try:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return reject(path, workspace.rejected, chain, error, at=at, seen=seen)
    except (FileNotFoundError, Replaced):  # another run set it aside, or its writer wrote another one
        return None


def is_another(path: Path, seen: Identity | None) -> bool:
    """Return whether a path now holds another file than the one that was seen, if one was."""
    return seen is not None and identity(path) not in (None, seen)


@contextmanager
def turn(workspace: Workspace, chain: str, seconds: float = TURN_SECONDS) -> Iterator[bool]:
    """Wait until no other process on this machine updates the chain; yield whether the lock is held.

    It only saves work: two updates of one chain are safe, but the loser of the race is fitted twice.
    So after `seconds` the block runs anyway. A file lock, not a Prefect concurrency slot, because the
    kernel frees it when its holder is killed, where a slot stays taken for minutes.

    Yields
    ------
    bool
        True with the lock held, False after a time-out.
    """
    check_chain_name(chain)
    folder = workspace.root / ".lindley" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / f"{chain}.lock").acquire(timeout=seconds)
    except Timeout:
        yield False
        return
    with lock:
        yield True
