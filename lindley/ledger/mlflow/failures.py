"""MLflow's failures as Lindley's errors."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED, UNAUTHENTICATED, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from lindley.errors import AccessRefused, LedgerCorrupt, LedgerUnavailable


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Raise what MLflow raises as one paragraph that says what to do."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, sqlite3.Error, OSError) as error:
        found = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
        if isinstance(error, MlflowException) and refused_with(error, PERMISSION_DENIED, UNAUTHENTICATED):
            raise AccessRefused(
                f"You may not {what}",
                expected="a user who may, in MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
                found=found,
                todo="ask whoever manages the server for the permission EDIT on the chain's registered model "
                "and experiment; READ is enough to load, log and verify",
            ) from error
        raise LedgerUnavailable(
            f"MLflow refused or failed to {what}",
            found=found,
            todo="check MLFLOW_TRACKING_URI, your permissions there, and that the server is up",
        ) from error


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
