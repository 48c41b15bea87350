"""The last resort for errors that nothing foresaw: one sentence, and a log with the traceback."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
import traceback
from pathlib import Path

from lindley import __version__
from lindley.addresses import public
from lindley.errors import LindleyError, reason
from lindley.workspace import Workspace

#: Variables of the environment whose values are secrets.
_SECRET = re.compile(r"KEY|PASSWORD|PASSWD|SECRET|TOKEN|CREDENTIAL", re.IGNORECASE)
#: Shorter values stand in any text by chance.
_SHORTEST = 6


class Unexpected(LindleyError):
    """An error that Lindley did not foresee: a defect of Lindley, or of code that it calls."""


def unexpected(error: Exception, doing: str) -> Unexpected:
    """Write the traceback of an error to a log and return what to show in its place.

    Parameters
    ----------
    error
        The error as it was caught.
    doing
        What was going on, e.g. ``lindley update``.

    Side effects
    ------------
    Writes a file ``.lindley/logs/error-*.log`` below the working folder, or in the folder for temporary
    files where that cannot be written. Only the user can read it: a traceback may quote data.
    """
    lines = traceback.format_exception(error)
    head = f"{doing}, Lindley {__version__}, Python {platform.python_version()}, {platform.platform()}\n\n"
    path = _write(without_secrets(head + "".join(lines)))
    return Unexpected(
        f"An unexpected error ended {doing}",
        expected="an error that Lindley explains, or none",
        found=without_secrets(reason(error)),
        todo=f"read the traceback in {path}, and report it if your model's own code is not its cause"
        if path
        else "run it again in a folder that can be written, to get a log",
    )


def _write(text: str) -> Path | None:
    """Write a log; None where no folder takes it."""
    folders = [Workspace.from_environment().root / ".lindley" / "logs", Path(tempfile.gettempdir())]
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A name of its own, readable by the user alone.
            handle, name = tempfile.mkstemp(prefix=f"error-{stamp}-", suffix=".log", dir=folder)
            with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return Path(name)
    return None


def without_secrets(text: str) -> str:
    """Return text without passwords in addresses and values of secret variables."""
    values = [value for name, value in os.environ.items() if _SECRET.search(name) and len(value) >= _SHORTEST]
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    return public(text)
