"""What holds for MLflow's client as a whole: how it is opened, its state in this process, lists in pages."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
from filelock import FileLock
from mlflow import MlflowClient

from lindley.ledger.mlflow import paths


def client_state() -> tuple[str, str, str]:
    """Return tracking URI, registry URI and the id of the active run, empty if there is none.

    Lindley's own code changes none of it.
    """
    run = mlflow.active_run()
    return mlflow.get_tracking_uri(), mlflow.get_registry_uri(), run.info.run_id if run else ""


def pages(fetch: Callable[[str | None], Any]) -> Iterator[Any]:
    """Yield the items of every page of a list; `fetch` returns the page of a token, None for the first."""
    token: str | None = None
    while True:
        page = fetch(token)
        yield from page
        token = page.token
        if not token:
            return


def open_embedded(uri: str) -> MlflowClient:
    """Open a SQLite ledger; its tables are made once, under a lock.

    One that has them is opened without a lock, and nothing is created: it may be on a disk that cannot be
    written.
    """
    path = paths.database(uri)
    if _has_tables(path):
        return _client(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"), contextlib.closing(sqlite3.connect(path)) as database:
        # MLflow tries a database that cannot be opened again and again, for minutes.
        database.execute("PRAGMA schema_version")
        return _client(uri)


def _client(uri: str) -> MlflowClient:
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.search_registered_models(max_results=1)
    return client


def _has_tables(path: Path) -> bool:
    """Return whether MLflow has made its tables in a database: it adds the default experiment last."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            return database.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
    except sqlite3.Error:
        return False
