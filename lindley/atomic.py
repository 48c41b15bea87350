"""Files that appear under their name whole or not at all.

A file is written beside its place under a temporary hidden name (``.*.tmp``), flushed to disk, and
then given its name in one step.
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

#: What the operating system says where hard links cannot be made.
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
#: Beginning of the hidden folders in which a file is for the moment between its name and its removal.
_TAKEN = ".taken-"
#: How often a removal that another process came into is tried.
_TRIES = 5


class Replaced(Exception):
    """A name stands for another file than the one that was meant, or that one was written to."""


@dataclass(frozen=True)
class Identity:
    """Which file it is and in which state: two that are equal have the same content.

    Parameters
    ----------
    device, inode
        Which file.
    size, mtime_ns
        In bytes, and time of the last change in nanoseconds since the epoch.
    """

    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Identity:
        """Return what the operating system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def identity(path: Path) -> Identity | None:
    """Return which file a name stands for now, links followed; None for none."""
    try:
        return Identity.of(path.stat())
    except (FileNotFoundError, NotADirectoryError, ValueError):  # the last is a name that nothing can have
        return None


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
        Which file is meant; None takes whatever has the name. Another one that takes the name while this
        one moves stays where it is.

    Returns
    -------
    bool
        False, with nothing changed, when the name is taken.

    Raises
    ------
    Replaced
        If `source` is not the file that is meant; nothing is at the target.
    """
    # A kept file is copied, never linked: its owner may go on editing it.
    if not keep and not source.is_symlink():
        try:
            os.link(source, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
        else:
            _settle(source, target, seen)
            return True
    with source.open("rb") as reader:
        if not _copy_new(reader, target, seen):
            return False
    if not keep:
        remove(source, seen)
    return True


def _settle(source: Path, target: Path, seen: Identity | None) -> None:
    """Take the old name of a file that has its new one, if it is the file that is meant."""
    if seen is not None and identity(target) != seen:
        target.unlink()
        raise Replaced(source)
    failpoints.reach("archive-linked")
    remove(source, seen)
    if seen is not None and identity(target) != seen:  # its writer had it open and wrote to it
        _put_back(target, source)
        raise Replaced(source)


def remove(path: Path, seen: Identity | None = None) -> None:
    """Remove a file, or leave the name to another one that has it.

    Parameters
    ----------
    path
        Its name; nothing happens where there is none.
    seen
        Which file is meant; None removes whatever has the name.
    """
    if seen is None or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    # A process that gives back what others left may take the folder, or the file, from under this one.
    for _ in range(_TRIES):
        if identity(path) != seen or _removed(path, seen):
            return


def _removed(path: Path, seen: Identity) -> bool:
    """Remove a file that is the one that is meant; False where somebody else was at it."""
    # Another file can take the name between the look and the removal: it is looked at once more under a
    # name that nobody writes to, and put back if it is one.
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
    """Give files their names again that a killed process had taken for the moment before their removal.

    Safe at any time: a process that is just at it tries again.

    Parameters
    ----------
    folder
        Where the files were; nothing happens where nothing was left.
    """
    for left in sorted(folder.glob(f"{_TAKEN}*")):
        with suppress(OSError):  # not ours, or another process is at it
            for taken in list(left.iterdir()):
                _put_back(taken, folder / taken.name)
            left.rmdir()


def _put_back(taken: Path, path: Path) -> None:
    """Give a file its name again, or one beside it where another file has that by now."""
    number, name = 0, path
    # It may have the name already, beside this one.
    while not (_named(taken, name) or identity(name) == identity(taken)):
        number += 1
        name = path.with_name(f"{path.stem}-{number}{path.suffix}")
    taken.unlink(missing_ok=True)


def _named(path: Path, name: Path) -> bool:
    """Give a file a name that nothing has; False when the name is taken."""
    try:
        os.link(path, name)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # Without hard links two writers of one name in the same instant could meet here.
        if name.exists():
            return False
        path.rename(name)
    return True


def _copy_new(reader: BinaryIO, target: Path, seen: Identity | None = None) -> bool:
    with _temporary(reader, target) as temporary:
        if seen is not None and Identity.of(os.fstat(reader.fileno())) != seen:
            raise Replaced(target)
        return _named(temporary, target)


@contextmanager
def _temporary(reader: BinaryIO, target: Path) -> Iterator[Path]:
    """Give a flushed temporary file beside the target, removed afterwards if it is still there."""
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
