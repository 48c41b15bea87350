"""MLflow's failures as Lindley's errors."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, UNAUTHENTICATED, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from lindley.addresses import public
from lindley.errors import AccessRefused, LedgerCorrupt, LedgerUnavailable, LindleyError

#: MLflow would log each error of a database with its traceback; here it is raised as one sentence.
logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)

_FULL = (
    "free some space on the disk of the ledger, then run this again: no link was registered, and files stay"
)
_LOCKED_AWAY = "to write, use a ledger that you may write to; commands that read need only to read"
_DAMAGED = "restore the database from a backup; until then write nothing to this ledger"

#: What a tracking server's client raises.
_OF_SERVERS = (MlflowException, SQLAlchemyError, sqlite3.Error, OSError)


#: What databases and disks say, and what to do; the first that a text contains holds.
_ADVICE = {
    "disk is full": _FULL,
    "No space left": _FULL,
    "quota exceeded": _FULL,
    "readonly database": _LOCKED_AWAY,
    "read-only": _LOCKED_AWAY,
    "Permission denied": _LOCKED_AWAY,
    "unable to open database": _LOCKED_AWAY,
    "database is locked": "run this again: other processes write to the ledger now. If that happens often, "
    "put a server with PostgreSQL before it",
    "is not a database": _DAMAGED,
    "malformed": _DAMAGED,
    "disk I/O error": "check the disk and the kernel's log, then run this again; restore the ledger from a "
    "backup if `lindley verify` finds something",
    "out-of-date database schema": "back up the database, then run `mlflow db upgrade` on it",
    "Can't locate revision": "a newer MLflow has used this database: upgrade MLflow here",
}


def _advice(text: str) -> str:
    """Return what to do about an error of a database, a disk or a server."""
    lower = text.lower()
    known = (todo for part, todo in _ADVICE.items() if part.lower() in lower)
    return next(known, "check MLFLOW_TRACKING_URI, your permissions there, and that the server is up")


@contextmanager
def translated(what: str, *, store: bool = False) -> Iterator[None]:
    """Raise MLflow's errors as Lindley's, one paragraph that states what to do.

    Parameters
    ----------
    what
        What was tried, as in "MLflow refused or failed to ...".
    store
        Whether the call goes to an artifact store: the clients of buckets raise errors of their own types.
    """
    try:
        yield
    except LindleyError:
        raise
    except Exception as error:
        if not store and not isinstance(error, _OF_SERVERS):
            raise
        text = public(str(error))
        found = (text.strip().splitlines() or [type(error).__name__])[0][:300]
        cause = error if text == str(error) else None  # a traceback in a log would show the secret
        if _forbidden(error):
            raise AccessRefused(
                f"You may not {what}",
                expected="a user who may, in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD (of a "
                "bucket: in its own variables)",
                found=found,
                todo="ask the server's administrator for the permission EDIT on the chain's registered model "
                "and experiment; READ is enough to load, log and verify",
            ) from cause
        raise LedgerUnavailable(
            f"MLflow refused or failed to {what}",
            found=found,
            todo=_advice(text),
        ) from cause


def _forbidden(error: Exception) -> bool:
    """Whether the other side refused this user, or an anonymous one."""
    if isinstance(error, MlflowException):
        return _refused_with(error, PERMISSION_DENIED, UNAUTHENTICATED)
    # requests has an object there, botocore a dictionary.
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(response, "status_code", None)
    return status in {401, 403}


def missing(run_id: str, path: str) -> LedgerCorrupt:
    """Return the error of an artifact that is not there."""
    what = f"The artifact {path or '(all)'} of run {run_id} is missing"
    return LedgerCorrupt(what, expected="every artifact that the link's record lists", found="no such file")


def unless_refused[T](call: Callable[[], T], *codes: int) -> T | None:
    """Return what a call to MLflow returns; None where MLflow refuses it with one of these error codes."""
    try:
        return call()
    except MlflowException as error:
        if _refused_with(error, *codes):
            return None
        raise


def _refused_with(error: MlflowException, *codes: int) -> bool:
    return error.error_code in {ErrorCode.Name(code) for code in codes}
