"""Shards as tasks of a flow run, on the task runner that a setting names."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.futures import wait
from prefect.logging import get_run_logger
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner

from flows.panel.settings import DASK, RAY, PanelSettings
from lindley.errors import PanelRefused
from lindley.report.text import counted
from tasks.panel import fit_shard

if TYPE_CHECKING:
    from lindley.operations.panel.fit import PanelOutcome
    from lindley.operations.plan import Plan


def fit_on_engine(plan: Plan) -> PanelOutcome:
    """Fit the members of a plan, its shards as tasks of the current flow run.

    Raises
    ------
    PanelRefused
        If the engine that the settings name is not installed, or its workers die again and again.
    """
    from lindley.operations.panel.fit import fit_panel  # the numerical stack

    settings = PanelSettings.from_environment()
    members = len(plan.members.work) if plan.members is not None else 0
    shards, runner = settings.shards_for(members), task_runner(settings)
    get_run_logger().info(
        "%s in %s on %s", counted(members, "member"), counted(shards, "shard"), settings.engine
    )
    outcome = fit_panel(
        plan, lambda folder, numbers: _run(runner, folder, numbers), shards=shards, folder=settings.folder
    )
    for sentence in outcome.highlights(None):
        get_run_logger().info("%s", sentence)
    return outcome


def _run(runner: TaskRunner[Any], folder: Path, numbers: list[int]) -> None:
    """Run shards as tasks; what has no result then is for the caller to run again."""
    with runner.duplicate() as engine:
        futures = [
            engine.submit(fit_shard, parameters={"folder": str(folder), "number": number})
            for number in numbers
        ]
        wait(futures)
    failed = [future.state for future in futures if not future.state.is_completed()]
    if failed:
        get_run_logger().warning("%s failed: %s", counted(len(failed), "shard"), failed[0].message)


def task_runner(settings: PanelSettings) -> TaskRunner[Any]:
    """Return the task runner that the settings name.

    Raises
    ------
    PanelRefused
        If it is not installed.
    """
    if settings.engine == RAY:
        return _ray(settings)
    return _dask(settings) if settings.engine == DASK else ProcessPoolTaskRunner(max_workers=settings.workers)


def _ray(settings: PanelSettings) -> TaskRunner[Any]:
    given: dict[str, Any] = {} if settings.address else {"init_kwargs": {"num_cpus": settings.workers}}
    runner: TaskRunner[Any] = _installed(RAY, "RayTaskRunner")(address=settings.address or None, **given)
    return runner


def _dask(settings: PanelSettings) -> TaskRunner[Any]:
    local = {"cluster_kwargs": {"n_workers": settings.workers, "threads_per_worker": 1}}
    given: dict[str, Any] = {"address": settings.address} if settings.address else local
    runner: TaskRunner[Any] = _installed(DASK, "DaskTaskRunner")(**given)
    return runner


def _installed(engine: str, name: str) -> Any:
    """Return a task runner's class, or refuse an engine that is not installed."""
    try:
        return getattr(import_module(f"prefect_{engine}"), name)
    except ImportError as error:
        raise PanelRefused(
            f"The engine {engine} is not installed",
            expected=f"the extra lindley[{engine}]",
            found=str(error)[:200],
            todo=f"install lindley[{engine}], or leave LINDLEY_PANEL_ENGINE out",
        ) from error
