"""Which file is meant, which ones come before it, and where it goes afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from lindley import failpoints
from lindley.errors import BatchRefused, LindleyError, NameRefused
from lindley.landing import Arrival, archive, arrivals, is_complete, reject
from lindley.names import check_chain_name
from lindley.workspace import Workspace

#: Seconds that an update waits for another one of the same chain on this machine.
TURN_SECONDS = 1800.0


def locate(workspace: Workspace, chain: str, file: str) -> Path:
    """Return the file that is meant: a plain name lies in the chain's landing folder.

    Raises
    ------
    NameRefused
        If it is neither a plain file name nor an absolute path: what a relative path means depends
        on the folder of the process, which in a worker is nobody's choice.
    """
    check_chain_name(chain)
    path = Path(file)
    if path.is_absolute():
        return path
    if path.name != file or file in {"", ".", ".."}:
        raise NameRefused(
            "A file name was refused",
            expected="the name of a file in the chain's landing folder, or an absolute path",
            found=repr(file)[:80],
            todo="give the absolute path of the file",
        )
    return workspace.landing / chain / file


def has_landed(workspace: Workspace, chain: str, path: Path) -> bool:
    """Return whether the file itself, not a link to it, lies in the chain's landing folder."""
    return not path.is_symlink() and path.parent.resolve() == (workspace.landing / chain).resolve()


def finished(path: Path) -> bool:
    """Return whether the file's writer has finished; waits a second for one that just changed."""
    return is_complete(path, clock=time.time, sleep=time.sleep)


def waiting(workspace: Workspace, chain: str) -> list[Arrival]:
    """Return the complete files in the chain's landing folder, oldest first.

    A file that is still being written is left out: it changes again, so it is not older.
    """
    found = [arrival for arrival in arrivals(workspace.landing) if arrival.chain == chain]
    return [arrival for arrival in found if finished(arrival.path)]


def earlier(workspace: Workspace, chain: str, path: Path) -> list[Path]:
    """Return the complete files that arrived in the chain's landing folder before `path`."""
    names = [arrival.path for arrival in waiting(workspace, chain)]
    mine = [index for index, name in enumerate(names) if name.name == path.name]
    return names[: mine[0]] if mine else []


def store(workspace: Workspace, chain: str, path: Path, digest: str) -> Path:
    """Archive a file under its batch's digest: moved when it has landed, copied from elsewhere."""
    stored = archive(path, workspace.store, chain, digest, keep=not has_landed(workspace, chain, path))
    failpoints.reach("archived")
    return stored


def at_fault(error: LindleyError) -> bool:
    """Return whether it is the file itself that cannot become a batch, now or later."""
    return isinstance(error, BatchRefused)


def set_aside(workspace: Workspace, chain: str, path: Path, error: LindleyError) -> Path | None:
    """Move a landed file that is itself at fault to ``rejected/`` and return where it is.

    A file from elsewhere stays where it is, and so does one that fails for a reason that is not its
    own (the model, the ledger): skipping it would break the order of the batches.
    """
    if not at_fault(error) or not has_landed(workspace, chain, path):
        return None
    try:
        return reject(
            path, workspace.rejected, chain, error, at=datetime.now(UTC).isoformat(timespec="seconds")
        )
    except FileNotFoundError:  # another run set it aside
        return None


@contextmanager
def turn(workspace: Workspace, chain: str, seconds: float = TURN_SECONDS) -> Iterator[bool]:
    """Wait until no other process on this machine updates the chain; gives whether that came.

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
    lock = FileLock(folder / f"{chain}.lock", timeout=seconds)
    try:
        lock.acquire()
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()
