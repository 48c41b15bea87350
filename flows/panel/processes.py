"""Shards in processes of this machine, without Prefect."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from flows.panel.settings import PanelSettings
from lindley.operations.panel.fit import PanelOutcome, fit_panel
from lindley.operations.plan import Plan
from lindley.panel.shards import fit_shard

Progress = Callable[[int, int], None]


def fit_panel_here(plan: Plan, progress: Progress | None = None) -> PanelOutcome:
    """Fit the members of a plan in processes of this machine; a single shard in this one.

    Parameters
    ----------
    progress
        Called with the number of shards done and of all shards.
    """
    settings = PanelSettings.from_environment()
    members = len(plan.members.work) if plan.members is not None else 0
    shards = settings.shards_for(members)
    if min(shards, settings.workers) == 1:
        return fit_panel(plan, shards=shards)

    def run(folder: Path, numbers: list[int]) -> None:
        run_in_processes(folder, numbers, settings.workers, progress)

    return fit_panel(plan, run, shards=shards)


def run_in_processes(
    folder: Path, numbers: list[int], workers: int, progress: Progress | None = None
) -> None:
    """Run shards in a pool of processes.

    Where a process dies, the pool ends; what has no result then is for the caller to run again.
    """
    # Not by a fork: threads of a compiled model's library do not survive one.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(numbers)), mp_context=spawn) as pool:
        waiting = [pool.submit(fit_shard, folder, number) for number in numbers]
        try:
            for done, future in enumerate(as_completed(waiting), start=1):
                future.result()
                if progress is not None:
                    progress(done, len(numbers))
        except BrokenProcessPool:
            return
