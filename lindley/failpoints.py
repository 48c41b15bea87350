"""Places where a process can be made to die, so that tests can show what a kill there leaves.

Nothing happens unless the environment variable ``LINDLEY_FAILPOINT`` names one of them, as ``NAME`` or
``NAME:N``: the process then kills itself with SIGKILL when it is there for the N-th time (1 by default).
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass

from lindley.errors import NameRefused

#: The environment variable that names one.
VARIABLE = "LINDLEY_FAILPOINT"

#: Every place by name, in the order of docs/ledger-format.md, section 7, and what a process has done there.
NAMES = {
    "genesis-run": "closed the run with the genesis record, claimed nothing",
    "claimed": "started the chain, which has no links",
    "files-written": "written a link's files to a scratch folder",
    "run-opened": "opened the link's run",
    "uploading": "uploaded some of the files",
    "uploaded": "uploaded all files",
    "read-back": "fetched all files again and compared them",
    "head-checked": "seen that the head is still the one that was fitted on",
    "versioned": "created the version, moved no alias",
    "aliased": "moved the alias, closed no run",
    "closed": "closed the run; the file is still where it was",
    "archive-copied": "copied a file, under a hidden name",
    "archive-linked": "given a file that moves its new name, and not taken the old one",
    "archive-taken": "taken the old name of a file that moved, and not removed it",
    "archived": "moved the file to the store",
    "drawn": "registered and archived the link, and drawn its pictures to a scratch folder",
    "reason-written": "written why a file is refused, and not moved the file",
}


@dataclass
class _Armed:
    """The fail-point at which this process dies, and how often it has still to be there."""

    name: str = ""
    left: int = 0


def arm(text: str) -> None:
    """Choose where this process dies.

    Parameters
    ----------
    text
        ``NAME`` or ``NAME:N``; nowhere when it is empty.

    Raises
    ------
    NameRefused
        If it names no fail-point.
    """
    name, colon, times = text.partition(":")
    if text and (name not in NAMES or not re.fullmatch(r"[1-9][0-9]{0,5}", times if colon else "1")):
        raise NameRefused(
            f"{VARIABLE} names no fail-point",
            expected=f"NAME or NAME:N, with one of the names {', '.join(NAMES)}",
            found=repr(text)[:80],
            todo=f"correct {VARIABLE}, or unset it: it is for tests of crash safety only",
        )
    _armed.name, _armed.left = name, int(times or 1)


def reach(name: str) -> None:
    """Die here if this is the place; otherwise do nothing.

    Parameters
    ----------
    name
        One of `NAMES`.
    """
    if name != _armed.name:
        return
    _armed.left -= 1
    if _armed.left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


_armed = _Armed()
arm(os.environ.get(VARIABLE, ""))
