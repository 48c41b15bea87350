"""MLflow's failures as Lindley's errors."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from lindley.errors import LedgerCorrupt, LedgerUnavailable

#: User and password of an address; a password may hold an @ that nobody escaped.
_USER = re.compile(r"(?<=://)[^/\s'\"]*@")


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise what MLflow raises as one paragraph that says what to do."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        said = public(str(error))
        raise LedgerUnavailable(
            f"MLflow refused or failed to {what}",
            found=(said.strip().splitlines() or [type(error).__name__])[0][:300],
            todo="check MLFLOW_TRACKING_URI, your permissions there, and that the server is up",
        ) from (error if said == str(error) else None)  # a traceback in a log would show the secret


def public(text: str) -> str:
    """Return text without the user and password of any address in it, as in ``http://user:word@host``."""
    return _USER.sub("", text)


def missing(run_id: str, path: str) -> LedgerCorrupt:
    """Return the error of an artifact that is not there."""
    return LedgerCorrupt(
        f"The artifact {path or '(all)'} of run {run_id} is missing",
        expected="every artifact that the link's record lists",
        found="no such file",
        todo="restore the artifact store from a backup, and run `lindley verify`",
    )


def refused_with(error: MlflowException, *codes: int) -> bool:
    """Whether MLflow refused with one of these error codes."""
    return error.error_code in {ErrorCode.Name(code) for code in codes}
