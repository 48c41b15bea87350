"""What databases and disks refuse is one sentence that states what to do."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from lindley.errors import LedgerUnavailable
from lindley.ledger.mlflow.failures import translated
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.protocol import Run

SQL = "INSERT INTO tags (key, value) VALUES (?, ?)"


def of_sqlite(text: str) -> Exception:
    cause = OperationalError(SQL, {"key": "x" * 9000}, sqlite3.OperationalError(text))
    return MlflowException(cause)


@pytest.mark.parametrize(
    ("error", "todo"),
    [
        (of_sqlite("database or disk is full"), "free some space"),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "free some space"),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)), "free some space"),
        (of_sqlite("attempt to write a readonly database"), "that you may write to"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS)), "that you may write to"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), "that you may write to"),
        (of_sqlite("database is locked"), "other processes write"),
        (sqlite3.DatabaseError("database disk image is malformed"), "from a backup"),
        (sqlite3.DatabaseError("file is not a database"), "from a backup"),
        (of_sqlite("disk I/O error"), "kernel's log"),
        (ConnectionRefusedError("refused"), "that the server is up"),
    ],
)
def test_the_advice_fits(error: Exception, todo: str) -> None:
    refused = pytest.raises(LedgerUnavailable, match="MLflow refused or failed to start a run")
    with refused as caught, translated("start a run"):
        raise error
    assert todo in caught.value.todo
    assert "\n" not in str(caught.value)
    assert SQL not in str(caught.value)


def test_a_full_disk_under_a_real_ledger(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ledger = MlflowLedger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    ledger.open_run("coins", Run(name="first"))
    engine = ledger.client._tracking_client.store.engine

    @event.listens_for(engine, "checkout")
    def no_more_pages(connection: sqlite3.Connection, *_: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    full = {f"parameter-{number}": "x" * 5000 for number in range(99)}
    with pytest.raises(LedgerUnavailable, match="disk is full") as caught:
        ledger.open_run("coins", Run(name="second", params=full))
    assert "free some space" in caught.value.todo
    shown = capfd.readouterr()
    assert "Traceback" not in shown.err + shown.out
    assert not logging.getLogger("mlflow.store.db.utils").isEnabledFor(logging.ERROR)
