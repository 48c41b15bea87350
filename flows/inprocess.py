"""Flow runs in this process, started from the command line.

Import only after `flows.environment.prepare`: this module imports Prefect.
"""

from __future__ import annotations

import importlib
import os
from typing import Any

from filelock import FileLock
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows.sequences.result import Result
from flows.states import value_of
from flows.sweep import Swept
from lindley.addresses import public
from lindley.errors import LindleyError
from lindley.workspace import Workspace
from tasks.progress import Progress, watched


class PrefectUnavailable(LindleyError):
    """The Prefect server does not answer, or the embedded one does not start; it may be up again."""

    transient = True


def run_flow(workspace: Workspace, progress: Progress, name: str, *given: Any, **options: Any) -> Any:
    """Run a flow in this process and return what it came to.

    Parameters
    ----------
    progress
        Called with draws done and draws in all.
    name
        Its module in `flows` and its own name, e.g. ``amend.retract``.
    given, options
        Its parameters.

    Raises
    ------
    LindleyError
        If the flow run failed.
    PrefectUnavailable
        If there is no Prefect server and none can be started.
    """
    reach_prefect(workspace)
    module, _, function = name.partition(".")
    flow = getattr(importlib.import_module(f"flows.{module}"), function)
    with watched(progress):
        found = value_of(flow(*given, **options, return_state=True), Result | Swept)
    if isinstance(found, LindleyError):
        raise found
    return found


def reach_prefect(workspace: Workspace) -> None:
    """Make sure that a Prefect server answers; start the embedded one when none is configured.

    Raises
    ------
    PrefectUnavailable
        If there is none.
    """
    address = os.environ.get("PREFECT_API_URL", "")
    folder = workspace.root / ".lindley"
    folder.mkdir(parents=True, exist_ok=True)
    # Under a lock: two first starts on one fresh database get into each other's way.
    with FileLock(folder / "prefect.lock"), temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        try:
            with get_client(sync_client=True) as client:
                problem = client.api_healthcheck()
        except Exception as error:  # whatever the server's start raises
            problem = error
    if problem is not None:
        raise PrefectUnavailable(
            "The Prefect server does not answer" if address else "The embedded Prefect server does not start",
            expected=f"a server at {public(address)}" if address else "a server on the database in .prefect/",
            found=public(f"{type(problem).__name__}: {problem}"),
            todo="start it, or unset PREFECT_API_URL to run without one; `--direct` needs none",
        )
