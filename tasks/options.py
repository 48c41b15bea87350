"""What all tasks have in common: nothing is cached or pickled, only transient errors are retried."""

from __future__ import annotations

import re
from collections.abc import Callable

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.runtime import flow_run
from prefect.settings import PREFECT_UI_URL

from lindley.addresses import public
from lindley.errors import LindleyError, LostRace


def artifact_key(chain: str, what: str) -> str:
    """Return the key of a chain's artifact.

    Prefect admits lower-case letters, digits and dashes; a chain's name may hold underscores, and
    ``a_b`` and ``a-b`` share their keys.
    """
    return re.sub(r"[^a-z0-9]+", "-", f"{chain}-{what}".lower()).strip("-")


#: Seconds before each retry of a task that met a transient error.
RETRY_DELAYS = [2.0, 10.0, 30.0]


def may_retry(_task: Task[..., object], _run: TaskRun, state: State[object]) -> bool:
    """Return whether the task failed for a reason that passes by itself.

    A lost race is transient for the flow, which plans again on the new head, but not for the task:
    the same call would lose again.
    """
    error = state.data
    return isinstance(error, LindleyError) and error.transient and not isinstance(error, LostRace)


def flow_run_url() -> str | None:
    """Return the page of the current flow run; None where no server shows pages."""
    base, run = public(PREFECT_UI_URL.value() or ""), flow_run.id
    return f"{base}/runs/flow-run/{run}" if base and run else None


def step[**P, R](name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Return a decorator that makes a function a task under Lindley's rules.

    Beliefs and data are never cached or persisted by Prefect, which would pickle them: what a run
    leaves is in the ledger.

    Parameters
    ----------
    name
        The task's name in the Prefect UI.
    """
    return task(
        name=name,
        cache_policy=NO_CACHE,
        persist_result=False,
        retries=len(RETRY_DELAYS),
        retry_delay_seconds=RETRY_DELAYS,
        retry_condition_fn=may_retry,
    )
