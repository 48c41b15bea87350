"""Flow runs in this process, started from the command line.

Import only after `flows.environment.prepare`: this module imports Prefect.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from flows import amend
from flows.rebase import outcome_of_refit, rebase
from flows.sequences.amend import ActResult
from flows.sequences.rebase import RefitResult
from flows.sequences.result import OnOverlap, UpdateResult
from flows.sweep import Swept, sweep
from flows.update import outcome_of, update
from lindley.addresses import public
from lindley.errors import LindleyError
from lindley.workspace import Workspace
from tasks.progress import watched

Progress = Callable[[int, int], None]


class PrefectUnavailable(LindleyError):
    """The Prefect server does not answer, or the embedded one does not start; it may be up again."""

    transient = True


def run_update(
    workspace: Workspace,
    chain: str,
    path: Path,
    accept_model_change: bool,
    progress: Progress,
    on_overlap: OnOverlap = "refuse",
) -> UpdateResult:
    """Run the flow `update` on a file and return what became of it.

    Raises
    ------
    LindleyError
        If the flow run failed.
    """
    reach_prefect(workspace)
    with watched(progress):
        found = outcome_of(update(chain, str(path), accept_model_change, on_overlap, return_state=True))
    if isinstance(found, LindleyError):
        raise found
    return found


def run_sweep(workspace: Workspace, chain: str | None, progress: Progress) -> Swept:
    """Run the flow `sweep` and return what it did."""
    reach_prefect(workspace)
    with watched(progress):
        state = sweep(chain, return_state=True)
    value = state.result(raise_on_failure=False)
    if isinstance(value, BaseException):
        raise value
    if not isinstance(value, Swept):
        raise RuntimeError(f"The flow run ended as {state.name}: {state.message}")
    return value


def run_rebase(
    workspace: Workspace, chain: str, audit: bool, accept_model_change: bool, progress: Progress
) -> RefitResult:
    """Run the flow `rebase` on a chain and return what became of it.

    Raises
    ------
    LindleyError
        If the flow run failed.
    """
    reach_prefect(workspace)
    with watched(progress):
        found = outcome_of_refit(rebase(chain, audit, accept_model_change, return_state=True))
    if isinstance(found, LindleyError):
        raise found
    return found


def run_retract(
    workspace: Workspace, chain: str, batches: list[str], accept_model_change: bool, progress: Progress
) -> ActResult:
    """Run the flow `retract`; see `_run_act`."""
    return _run_act(
        workspace, progress, lambda: amend.retract(chain, batches, accept_model_change, return_state=True)
    )


def run_correct(
    workspace: Workspace, chain: str, old: str, path: Path, accept_model_change: bool, progress: Progress
) -> ActResult:
    """Run the flow `correct`; see `_run_act`."""
    return _run_act(
        workspace,
        progress,
        lambda: amend.correct(chain, old, str(path), accept_model_change, return_state=True),
    )


def run_rollback(workspace: Workspace, chain: str, link: str, progress: Progress) -> ActResult:
    """Run the flow `rollback`; see `_run_act`."""
    return _run_act(workspace, progress, lambda: amend.rollback(chain, link, return_state=True))


def run_branch(workspace: Workspace, chain: str, link: str, name: str, progress: Progress) -> ActResult:
    """Run the flow `branch`; see `_run_act`."""
    return _run_act(workspace, progress, lambda: amend.branch(chain, link, name, return_state=True))


def _run_act(workspace: Workspace, progress: Progress, run: Callable[[], State[Any]]) -> ActResult:
    """Run the flow of an act and return what became of it.

    Raises
    ------
    LindleyError
        If the flow run failed.
    """
    reach_prefect(workspace)
    with watched(progress):
        found = amend.outcome_of_act(run())
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
