"""Resolve file references, list the files that come first, archive or reject a file afterwards."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from flows.sequences.unavailable import asking, looking
from lindley import failpoints
from lindley.arrivals.landing import Arrival, Listing
from lindley.arrivals.storage import Storage, storage_of
from lindley.atomic import Identity, Replaced
from lindley.errors import (
    LASTING,
    BatchRefused,
    BatchUnreadable,
    FileUnavailable,
    LindleyError,
    NameRefused,
    NotSetAside,
)
from lindley.names import check_chain_name, is_text, printable, shown_name
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.arrivals.storage import Seen
    from lindley.batch.batch import Batch
    from lindley.model.declaration import Declaration

#: Seconds that an update waits for another one of the same chain on this machine.
TURN_SECONDS = 1800.0
#: Bytes of a file's name at most, on the file systems of Linux and macOS.
MOST_BYTES = 255

_warn = logging.getLogger("lindley.files").warning


def locate(workspace: Workspace, chain: str, file: str) -> PurePath:
    """Return the path of a file reference: a plain name lies in the chain's landing folder.

    Raises
    ------
    NameRefused
        If it is neither a plain file name nor an absolute path: the meaning of a relative path depends on
        the folder of the process, which the user of a worker does not choose.
    """
    return _locate(storage_of(workspace).landed, "landing", chain, file)


def locate_correction(workspace: Workspace, chain: str, file: str) -> PurePath:
    """Return the file of a correction: a plain name lies in the chain's folder of corrections.

    Raises
    ------
    NameRefused
        If it is neither a plain file name nor an absolute path, or there is such a file in the landing
        folder only; see `check_correction`.
    """
    storage = storage_of(workspace)
    path = _locate(storage.correction, "corrections", chain, file)
    landed = locate(workspace, chain, file)
    with looking(path):
        if storage.exists(landed) and not storage.exists(path):
            check_correction(workspace, chain, landed)
    return path


def check_correction(workspace: Workspace, chain: str, path: PurePath) -> None:
    """Refuse a file in the landing folder, where the watcher and sweeps take it as an update.

    Raises
    ------
    NameRefused
        If it lies there, or is a link to what lies there.
    """
    storage = storage_of(workspace)
    landing, places = storage.root, [path]
    if isinstance(path, Path) and isinstance(landing, Path):
        landing, places = landing.resolve(), [path.parent.resolve(), path.resolve()]
    aside = storage.correction(chain, path.name).parent
    if any(place.is_relative_to(landing) for place in places):
        raise NameRefused(
            f"{shown_name(path)} cannot replace a batch from where it lies",
            expected="a file outside the landing folder, from which files are taken as updates",
            found="a file in the landing folder",
            todo=f"move it into {storage.shown(aside)}, and name it again",
        )


def _locate(place: Callable[[str, str], PurePath], folder: str, chain: str, file: str) -> PurePath:
    check_chain_name(chain)
    path = Path(file)
    if path.is_absolute():
        return path
    if path.name != file or file in {"", ".", ".."}:
        raise NameRefused(
            "A file name was refused",
            expected=f"the name of a file in the chain's {folder} folder, or an absolute path",
            found=repr(file)[:80],
            todo="give the absolute path of the file",
        )
    return place(chain, file)


def has_landed(workspace: Workspace, chain: str, path: PurePath) -> bool:
    """Return whether the file itself, not a link to it, lies in the chain's landing folder."""
    return storage_of(workspace).has_landed(chain, path)


def finished(workspace: Workspace, path: PurePath, notify: Callable[[str], object] = _warn) -> bool:
    """Return whether the file's writer has finished; waits a second for one that just changed.

    One that cannot be inspected counts as finished, and `notify` gets a sentence: reading it then fails, and
    its chain waits for it.
    """
    try:
        return storage_of(workspace).is_complete(path, clock=time.time, sleep=time.sleep)
    except OSError as error:
        notify(f"{shown_name(path)} cannot be inspected: {error.strerror or error}")
        return True


def arrived(workspace: Workspace) -> Listing:
    """List the landing folder; a file that a killed process was about to remove has its name again."""
    storage = storage_of(workspace)
    storage.restore()
    return storage.arrivals()


def waiting(workspace: Workspace, chain: str) -> list[Arrival]:
    """Return the complete files in the chain's landing folder, oldest first.

    A file that is still being written is left out: it changes again, so it is not older. A file whose name is
    not UTF-8 is set aside.

    Raises
    ------
    FileUnavailable
        If the folder, or a file in it, cannot be inspected: the order of the files is then unknown.
    """
    listing, folder = arrived(workspace), storage_of(workspace).root / chain
    for entry in listing.ignored:
        if entry.error is not None and folder in (entry.path, entry.path.parent):
            raise entry.error
    found = [arrival for arrival in listing if arrival.chain == chain]
    ready = [arrival for arrival in found if finished(workspace, arrival.path)]
    return [arrival for arrival in ready if not refuse_name(workspace, arrival, _warn)]


def check_name(path: PurePath) -> None:
    """Check that a file's name can be recorded.

    Raises
    ------
    BatchRefused
        If it is not UTF-8: neither records nor events nor pages can hold it. If it is longer than a file's
        name can be, as that of an object may be.
    """
    if len(os.fsencode(path.name)) > MOST_BYTES:
        raise BatchRefused(
            f"The name of {shown_name(path)} was refused",
            expected=f"at most {MOST_BYTES} bytes in UTF-8",
            found=f"{len(os.fsencode(path.name)):,} bytes",
            todo="rename the file, and put it into the landing folder again",
        )
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


def earlier(workspace: Workspace, chain: str, path: PurePath) -> list[PurePath]:
    """Return the complete files that arrived in the chain's landing folder before `path`."""
    names = [arrival.path for arrival in waiting(workspace, chain)]
    mine = [index for index, name in enumerate(names) if name.name == path.name]
    return names[: mine[0]] if mine else []


def store(
    workspace: Workspace,
    chain: str,
    path: PurePath,
    batch: Batch,
    seen: Seen | None,
    notify: Callable[[str], object],
) -> str:
    """Archive a file under its batch's digest: moved when it has landed, copied from elsewhere.

    A file that has landed where it may not be removed (in a folder of another owner, on a disk that cannot be
    written) is copied, and stays: the chain counts it already, so that no later file waits for it.

    Where another file took its name after it was read, the batch is written to the store as Parquet, and
    the other file stays for the next run. The batch of a folder is written likewise; the folder stays.
    Returns where it is.

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
        storage, landed = storage_of(workspace), has_landed(workspace, chain, path)
        if isinstance(path, Path) and path.is_dir():
            return storage.shown(storage.write(batch, chain))
        try:
            if seen is None:
                raise Replaced(path)
            stored = _archived(storage, chain, path, batch, seen, landed, notify)
        except (FileNotFoundError, Replaced):
            stored = storage.write(batch, chain)
            notify(f"{shown_name(path)} was replaced; the rows that were read of it are in the store")
        failpoints.reach("archived")
        if landed and storage.exists(path):
            notify(f"{shown_name(path)} is now another file, which is left for the next run")
        return storage.shown(stored)


def _archived(
    storage: Storage,
    chain: str,
    path: PurePath,
    batch: Batch,
    seen: Seen,
    landed: bool,
    notify: Callable[[str], object],
) -> PurePath:
    """Move a file to the store, or copy one that is not ours to remove."""
    try:
        return storage.archive(path, chain, batch.digest, keep=not landed, seen=seen)
    except OSError as error:
        if not landed or error.errno not in LASTING or not storage.exists(path):
            raise
        stored = storage.archive(path, chain, batch.digest, keep=True, seen=seen)
        notify(
            f"{shown_name(path)} is in the store and counted, but cannot be removed from the landing folder "
            f"({error.strerror}): it stays, and each run finds it again"
        )
        return stored


def at_fault(error: LindleyError) -> bool:
    """Return whether the file itself is at fault: it cannot become a batch, now or later."""
    return isinstance(error, BatchRefused)


def set_aside(
    workspace: Workspace, chain: str, path: PurePath, error: LindleyError, seen: Seen | None = None
) -> PurePath | None:
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
    NotSetAside
        If it may not be moved; it stays, and no later file waits for it.
    """
    if not at_fault(error) or not has_landed(workspace, chain, path):
        return None
    try:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        return storage_of(workspace).reject(path, chain, error, at=at, seen=seen)
    except FileUnavailable as kept:
        if kept.transient:
            raise
        raise NotSetAside(kept.happened, expected=kept.expected, found=kept.found, todo=kept.todo) from error
    except (FileNotFoundError, Replaced):  # another run set it aside, or its writer wrote another one
        return None


def is_another(workspace: Workspace, path: PurePath, seen: Seen | None) -> bool:
    """Return whether a path now holds another file than the one that was seen, if one was."""
    return seen is not None and storage_of(workspace).identity(path) not in (None, seen)


def read(
    workspace: Workspace,
    path: PurePath,
    declaration: Declaration,
    seen: Seen | None,
    reader: Callable[[Path, Declaration], Batch],
) -> Batch:
    """Read a file as a batch; that of an object states the object's version.

    Raises
    ------
    BatchRefused
        If it cannot become a batch.
    FileUnavailable
        If it cannot be read or fetched.
    Replaced
        If an object is not the one that was seen any more.
    """
    with storage_of(workspace).reading(path, seen) as local:
        batch = reader(local, declaration)
    return batch if seen is None or isinstance(seen, Identity) else replace(batch, object=seen.as_dict())


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


def read_still(
    workspace: Workspace,
    path: PurePath,
    declaration: Declaration,
    seen: Seen | None,
    reader: Callable[[Path, Declaration], Batch],
) -> Batch:
    """Read a file that someone named, as `read` does; one that is not there, or changes now, is refused.

    Raises
    ------
    BatchUnreadable
        If there is none, or another one took its name.
    """
    try:
        return read(workspace, path, declaration, seen, reader)
    except Replaced:
        raise BatchUnreadable(
            f"{shown_name(path)} cannot be read",
            expected="an object of that name, which stays as it is",
            found="none" if seen is None else "another one by now",
            todo="put it there, and run this again",
        ) from None
