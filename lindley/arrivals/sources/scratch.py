"""Folders for the copies of sources, which may be large: a pull that was killed leaves none for good."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lindley import process

_PREFIX = "lindley-pull-"
#: The file that names the process whose folder it is.
_OWNER = "process"


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """Make an empty folder for the time of a block, below the folder for temporary files.

    Removes the folders that killed processes of this user on this machine left there.
    """
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        if _is_left(folder):
            shutil.rmtree(folder, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as made:
        (Path(made) / _OWNER).write_text(process.describe(), encoding="utf-8")
        copy = Path(made) / "source"
        copy.mkdir()
        yield copy


def _is_left(folder: Path) -> bool:
    """Return whether a folder of this user names a process that has died."""
    try:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            return False
        return process.died((folder / _OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it has just been made, or removed
        return False
