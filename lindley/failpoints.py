"""Fail-points: places where tests kill the process to check what a crash there leaves behind.

Nothing happens unless the environment variable ``LINDLEY_FAILPOINT`` names one of them, as ``NAME`` or
``NAME:N``: the process then kills itself with SIGKILL the N-th time it reaches the place (1 by default).
"""

from __future__ import annotations

import os
import re
import signal
from dataclasses import dataclass

from lindley.errors import NameRefused

#: The environment variable that names a fail-point.
VARIABLE = "LINDLEY_FAILPOINT"

#: Fail-points in the order of docs/ledger-format.md, section 7, and what the process has done by then.
NAMES = {
    "genesis-run": "closed the run with the genesis record, claimed nothing",
    "claimed": "started the chain, which has no links",
    "files-written": "written a link's files to a scratch folder",
    "run-opened": "opened the link's run",
    "uploading": "uploaded some of the files",
    "uploaded": "uploaded all files",
    "read-back": "fetched all files again and compared them",
    "head-checked": "checked that the head is still the one of the fit",
    "versioned": "created the version, moved no alias",
    "aliased": "moved the alias, closed no run",
    "listed": "made the version's entry among MLflow's logged models, which is pending; closed no run",
    "closed": "closed the run; the file is still where it was",
    "archive-copied": "copied a file, under a hidden name",
    "archive-linked": "linked a file to its new name, not removed the old name",
    "archive-taken": "moved the old name of a file to a hidden folder, not deleted it",
    "archived": "moved the file to the store",
    "drawn": "registered and archived the link, and drawn its plots to a scratch folder",
    "reason-written": "written the report of a rejected file, not moved the file",
}
#: Fail-points of buckets, likewise.
OBJECT_NAMES = {
    "object-stored": "written an object's copy to the store and read it back, not taken the object",
    "object-taken": "put a mark in the place of an object whose copy is stored",
    "object-reported": "written the report of a rejected object, not copied the object",
    "object-copied": "copied a rejected object, not taken it",
}


@dataclass
class _Armed:
    """The fail-point at which this process dies, and how many times it has yet to reach it."""

    name: str = ""
    left: int = 0


def arm(text: str) -> None:
    """Choose the fail-point at which this process dies: ``NAME`` or ``NAME:N``; empty for none.

    Raises
    ------
    NameRefused
        If it names no fail-point.
    """
    name, colon, times = text.partition(":")
    if text and (
        name not in NAMES | OBJECT_NAMES or not re.fullmatch(r"[1-9][0-9]{0,5}", times if colon else "1")
    ):
        raise NameRefused(
            f"{VARIABLE} names no fail-point",
            expected=f"NAME or NAME:N, with one of the names {', '.join(NAMES | OBJECT_NAMES)}",
            found=repr(text)[:80],
            todo=f"correct {VARIABLE}, or unset it: it is for tests of crash safety only",
        )
    _armed.name, _armed.left = name, int(times or 1)


def reach(name: str) -> None:
    """Kill this process if the fail-point, one of `NAMES` or `OBJECT_NAMES`, is armed."""
    if name != _armed.name:
        return
    _armed.left -= 1
    if _armed.left <= 0:
        os.kill(os.getpid(), signal.SIGKILL)


_armed = _Armed()
arm(os.environ.get(VARIABLE, ""))
