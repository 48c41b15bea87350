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
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lindley import failpoints

#: What the operating system says where hard links cannot be made.
_NO_LINKS = {errno.EXDEV, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}


def write_new(data: bytes, target: Path) -> bool:
    """Write a new file; return False, with nothing changed, when the name is taken."""
    return _copy_new(io.BytesIO(data), target)


def write_over(data: bytes, target: Path) -> None:
    """Write a file in place of any of that name."""
    with _temporary(io.BytesIO(data), target) as temporary:
        temporary.replace(target)


def move_new(source: Path, target: Path, *, keep: bool = False) -> bool:
    """Move a file to a new name, across file systems if need be.

    Parameters
    ----------
    source, target
        Where it is and where it goes. The target of a symbolic link is copied.
    keep
        Copy it instead.

    Returns
    -------
    bool
        False, with nothing changed, when the name is taken.
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
            failpoints.reach("archive-linked")
            source.unlink(missing_ok=True)
            return True
    with source.open("rb") as reader:
        if not _copy_new(reader, target):
            return False
    if not keep:
        source.unlink(missing_ok=True)
    return True


def _copy_new(reader: BinaryIO, target: Path) -> bool:
    with _temporary(reader, target) as temporary:
        try:
            os.link(temporary, target)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Without hard links two writers of one name in the same instant could meet here.
            if target.exists():
                return False
            temporary.rename(target)
    return True


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
