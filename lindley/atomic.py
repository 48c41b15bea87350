"""Files that appear under their name whole or not at all.

A file is written in the target's folder under a temporary hidden name (``.*.tmp``), flushed to disk,
and renamed in one step.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from lindley import failpoints

#: Error numbers where hard links cannot be made.
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
#: Prefix of the hidden folders that hold a file between the removal of its name and its deletion.
_TAKEN = ".taken-"
#: Attempts at a removal that another process interrupts.
_TRIES = 5


class Replaced(Exception):
    """A name refers to another file than the expected one, or the expected file was written to."""


@dataclass(frozen=True)
class Identity:
    """A file and its state: equal identities have equal content.

    Parameters
    ----------
    device, inode
        The file.
    size, mtime_ns
        In bytes, and time of the last change in nanoseconds since the epoch.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Return the identity in a file's status."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def identity(path: Path) -> Identity | None:
    """Return the identity of the file that a name refers to, links followed; None where there is none."""
    try:
        return Identity.of(path.stat())
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last: a name that no file can have
        return None


def without_waiting(path: str, flags: int) -> int:
    """Open a file for reading, as the `opener` of Python's ``open``: a pipe opens at once, too.

    A name that belonged to a file when it was listed may be that of a pipe without a writer by now.
    """
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def write_new(data: bytes, target: Path) -> bool:
    """Write a new file; return False, with nothing changed, when the name is taken."""
    return _copy_new(io.BytesIO(data), target)


def write_over(data: bytes, target: Path) -> None:
    """Write a file in place of any of that name."""
    with _temporary(io.BytesIO(data), target) as temporary:
        temporary.replace(target)


def move_new(source: Path, target: Path, *, keep: bool = False, seen: Identity | None = None) -> bool:
    """Move a file to a new name, across file systems if need be.

    Parameters
    ----------
    source, target
        Where it is and where it goes. The target of a symbolic link is copied.
    keep
        Copy it instead.
    seen
        The expected file; None takes any. Another file that takes the name while this one moves stays
        where it is.

    Returns
    -------
    bool
        False, with nothing changed, when the name is taken.

    Raises
    ------
    Replaced
        If `source` is not the expected file; the target does not exist.
    OSError
        If `source` cannot be read or removed; in a folder that cannot be written, the target does not exist.
    """
    # A kept file is copied, never linked: its owner may go on editing it.
    linked = None if keep or source.is_symlink() else _linked(source, target)
    if linked is not None:
        if linked:
            _settle(source, target, seen)
        return linked
    with source.open("rb") as reader:
        if not _copy_new(reader, target, seen):
            return False
    if not keep:
        remove(source, seen)
    return True


def _settle(source: Path, target: Path, seen: Identity | None) -> None:
    """Remove the old name of a file that has its new one, if it is the expected file."""
    if seen is not None and identity(target) != seen:
        target.unlink()
        raise Replaced(source)
    failpoints.reach("archive-linked")
    try:
        remove(source, seen)
    except OSError:
        target.unlink()  # the file that stays is its owner's, who may go on editing it
        raise
    if seen is not None and identity(target) != seen:  # its writer had it open and wrote to it
        _put_back(target, source)
        raise Replaced(source)


def remove(path: Path, seen: Identity | None = None) -> None:
    """Remove a file, if there is one: any, or only the one that was `seen` under its name."""
    if seen is None or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    # A process in `give_back` may remove the folder or move the file in the meantime.
    for _ in range(_TRIES):
        if identity(path) != seen or _removed(path, seen):
            return


def _removed(path: Path, seen: Identity) -> bool:
    """Remove the expected file; False where another process interfered."""
    # Another file can take the name between the check and the removal. So the file is renamed to a private
    # name, checked again, and put back if it is another one.
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=_TAKEN))
    taken = folder / path.name
    try:
        path.rename(taken)
        failpoints.reach("archive-taken")
        if identity(taken) == seen:
            taken.unlink()
        else:
            _put_back(taken, path)
    except FileNotFoundError:
        return False
    finally:
        with suppress(OSError):
            folder.rmdir()
    return True


def give_back(folder: Path) -> None:
    """Restore files that a killed process had moved to a hidden folder before their removal.

    Safe at any time: a process that is removing a file tries again. `folder` is where the files were.
    """
    for left in sorted(folder.glob(f"{_TAKEN}*")):
        with suppress(OSError):  # no permission, or another process is working on it
            for taken in list(left.iterdir()):
                _put_back(taken, folder / taken.name)
            left.rmdir()


def _put_back(taken: Path, path: Path) -> None:
    """Rename a file back, or to a free name beside it where another file has taken its name."""
    number, name = 0, path
    # The file may have the name already, as a second link.
    while not (_named(taken, name) or identity(name) == identity(taken)):
        number += 1
        name = path.with_name(f"{path.stem}-{number}{path.suffix}")
    taken.unlink(missing_ok=True)


def _named(path: Path, name: Path) -> bool:
    """Give a file another name; False when it is taken. Without hard links, the file loses its old name."""
    linked = _linked(path, name)
    if linked is None:
        # Without hard links, two writers of one name in the same instant could both pass this check.
        linked = not name.exists()
        if linked:
            path.rename(name)
    return linked


def _linked(path: Path, name: Path) -> bool | None:
    """Give a file a second name; False when the name is taken, None where hard links cannot be made."""
    try:
        os.link(path, name)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return None
    return True


def _copy_new(reader: BinaryIO, target: Path, seen: Identity | None = None) -> bool:
    with _temporary(reader, target) as temporary:
        if seen is not None and Identity.of(os.fstat(reader.fileno())) != seen:
            raise Replaced(target)
        return _named(temporary, target)


@contextmanager
def _temporary(reader: BinaryIO, target: Path) -> Iterator[Path]:
    """Yield a flushed temporary file in the target's folder, removed afterwards if it is still there."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=".", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as writer:
            shutil.copyfileobj(reader, writer)
            writer.flush()
            os.fsync(writer.fileno())
        temporary.chmod(0o644)
        failpoints.reach("archive-copied")
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
