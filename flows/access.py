"""The password of a working folder's Prefect server, in ``.lindley/prefect.password``.

It is random, made once for each working folder and readable by its owner only. Commands, workers and
the server itself read it from there; `flows.server.guard` gives it to the browsers of the owner.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from filelock import FileLock

from lindley.errors import LindleyError
from lindley.workspace import Workspace

#: The variables with which Prefect's server and clients get the password.
SERVER_VARIABLE, CLIENT_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"
#: Names that lead to this machine whatever a name server answers; a web page cannot bring its own.
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
#: Variable with further names, separated by commas, under which the servers of `lindley up` may be asked.
NAMES_VARIABLE = "LINDLEY_ALLOWED_HOSTS"

_USER = "lindley"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PasswordRefused(LindleyError):
    """A password file that others can read, or that holds no password."""


def password_file(workspace: Workspace) -> Path:
    """Return the file with the password of a working folder's Prefect server."""
    return workspace.root / ".lindley" / "prefect.password"


def auth_string(workspace: Workspace) -> str:
    """Return user and password of a working folder's Prefect server, as ``user:password``; made if need be.

    One that the environment holds already wins.

    Raises
    ------
    PasswordRefused
        If other users can read the file, or it holds no password.
    """
    given = os.environ.get(SERVER_VARIABLE) or os.environ.get(CLIENT_VARIABLE)
    if given:
        return given
    path = password_file(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not path.exists():
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(f"{_USER}:{secrets.token_urlsafe(32)}\n")
        return _read(path)


def variables(workspace: Workspace) -> dict[str, str]:
    """Return the variables that give the password to Prefect's server and its clients."""
    given = auth_string(workspace)
    return {SERVER_VARIABLE: given, CLIENT_VARIABLE: given}


def allowed_names() -> tuple[str, ...]:
    """Return the host names under which the servers may be asked."""
    further = os.environ.get(NAMES_VARIABLE, "").lower().split(",")
    return LOOPBACK_NAMES + tuple(filter(None, (name.strip() for name in further)))


def _read(path: Path) -> str:
    mode = path.stat().st_mode
    if mode & _OTHERS:
        path.chmod(0o600)
        # A file system without permissions, as some mounts have, cannot keep anything from anyone.
        if not path.stat().st_mode & _OTHERS:
            raise _refused(path, f"mode {stat.filemode(mode)}: other users can read it")
    found = path.read_text(encoding="ascii", errors="replace").strip()
    if not found.startswith(f"{_USER}:") or len(found) < 40:
        raise _refused(path, "no password in it")
    return found


def _refused(path: Path, found: str) -> PasswordRefused:
    return PasswordRefused(
        "The password of the Prefect server cannot be used",
        expected="a file with a random password that only its owner can read",
        found=found,
        todo=f"stop `lindley up`, remove {path}, and start it again, which makes another password",
    )
