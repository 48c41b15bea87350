"""What holds for MLflow's client as a whole: its state in this process, and its lists in pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mlflow


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
