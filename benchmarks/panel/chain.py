"""A panel as users run it: files, a ledger on SQLite, one link a batch, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import wraps
from inspect import isfunction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.panel.measured import Measured, coverage_of
from benchmarks.panel.members import TERMS, members
from lindley.panel.row import MemberRow
from lindley.workspace import Workspace

SCENARIO, METHOD, NAME = "chain", "lindley update --direct", "members"
#: The model file that is declared.
MODEL = Path(__file__).parent / "models" / "members.py"
#: What a batch may hold: rows of all members, or of the first hundredth of them.
ALL, HUNDREDTH = "all", "1%"


@dataclass(frozen=True)
class Used:
    """What one update used, over all of its processes.

    Parameters
    ----------
    status
        What became of the file.
    seconds, cpu_seconds, peak_mb
        From the call to the end; the largest process.
    calls
        Calls of MLflow's client, by method.
    """

    status: str
    seconds: float
    cpu_seconds: float
    peak_mb: float
    calls: Mapping[str, int]


def run(count: int, batches: Sequence[str], processes: int, root: Path) -> Iterator[Measured]:
    """Update a panel with batches, one after the other; yields a row for each.

    Parameters
    ----------
    count
        Number of members.
    batches
        `ALL` or `HUNDREDTH` for each batch.
    processes
        Processes that fit.
    root
        Working folder. A panel that is there already goes on from its head.
    """
    workspace = _workspace(root)
    workspace.models.mkdir(parents=True, exist_ok=True)
    shutil.copy(MODEL, workspace.models / f"{NAME}.py")
    for batch in batches:
        first = _links(workspace)
        file = root / f"{NAME}-{first + 1:03d}.parquet"
        rows(count if batch == ALL else max(1, count // 100), first).to_parquet(file, index=False)
        before = _bytes(root)
        used = apart(workspace, NAME, file, processes)
        if used.status != "accepted":
            raise RuntimeError(f"the update was {used.status}")
        yield _measured(workspace, used, batch, _bytes(root) - before, processes)


def rows(count: int, link: int) -> pd.DataFrame:
    """Return the rows of the first members in the batch of a link (from 0)."""
    return pd.concat([one.rows(link).assign(key=one.number) for one in members(0, count)], ignore_index=True)


def apart(workspace: Workspace, chain: str, file: Path, processes: int) -> Used:
    """Update a chain with a file in a fresh process, as a command does."""
    context = multiprocessing.get_context("spawn")
    # One process for one task: its memory and CPU are those of the update.
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_update, workspace, chain, file, processes).result()


def _update(workspace: Workspace, chain: str, file: Path, processes: int) -> Used:
    """Update here; counts calls of MLflow's client."""
    started, before = time.perf_counter(), _cpu()
    os.environ["LINDLEY_PANEL_WORKERS"] = str(processes)
    # As a command: what it imports is part of its time.
    from mlflow import MlflowClient

    from flows.direct import core_steps
    from flows.sequences.update import update

    calls = Counter[str]()
    _count(MlflowClient, calls)
    result = update(core_steps(), workspace, chain, str(file))
    seconds, cpu = time.perf_counter() - started, _cpu() - before
    peak = max(resource.getrusage(who).ru_maxrss for who in _WHO) / 1024
    return Used(str(result.status), seconds, cpu, peak, dict(calls))


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def _cpu() -> float:
    """Return CPU seconds of this process and of the children that have ended."""
    used = [resource.getrusage(who) for who in _WHO]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _count(owner: type, calls: Counter[str]) -> None:
    """Count the calls of public methods that come from outside of a class."""
    inside: list[str] = []

    def wrapped(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def counted(*given: Any, **named: Any) -> Any:
            if not inside:
                calls[name] += 1
            inside.append(name)
            try:
                return method(*given, **named)
            finally:
                inside.pop()

        return counted

    for name, method in list(vars(owner).items()):
        if not name.startswith("_") and isfunction(method):
            setattr(owner, name, wrapped(name, method))


def _workspace(root: Path) -> Workspace:
    data = root / "data"
    uri = f"sqlite:///{root / 'mlflow.db'}"
    return Workspace(root, root / "models", data / "landing", data / "store", data / "rejected", uri)


def _links(workspace: Workspace) -> int:
    """Return how many links the panel has."""
    from lindley.ledger.backend import open_ledger
    from lindley.ledger.reading import find_chain

    if not (workspace.root / "mlflow.db").exists():
        return 0
    return len(find_chain(open_ledger(workspace), NAME).links)


def _bytes(root: Path) -> int:
    """Return the size of all files of the working folder."""
    return sum(path.stat().st_size for path in root.rglob("*") if path.is_file())


def _measured(workspace: Workspace, used: Used, batch: str, written: int, processes: int) -> Measured:
    """Return the row of an update, from what was registered."""
    from lindley.ledger.backend import open_ledger
    from lindley.ledger.history import find_link
    from lindley.panel.link import panel_link

    head = panel_link(find_link(open_ledger(workspace), NAME))
    number = head.view.number or 0
    changed = list(head.reader.rows(number).values())
    drawn, metrics = head.record["panel"]["samplers"], head.record["metrics"]
    own = [row.attempt["metrics"] for row in changed if row.attempt["passed"]]
    coverage, error = coverage_of(np.array([_inside(row) for row in changed if row.attempt["passed"]]))
    return Measured(
        scenario=SCENARIO,
        method=METHOD,
        link=number,
        members=len(changed),
        processes=processes,
        seconds=used.seconds,
        cpu_seconds=used.cpu_seconds,
        peak_mb=used.peak_mb,
        approximations=drawn.get("approximation", 0),
        nuts=drawn.get("nuts", 0),
        failed=int(metrics["members_quarantined"]),
        ess=float(np.mean([one["ess_bulk_min"] for one in own])),
        match_ess=float(np.median([one["match_ess"] for one in own])),
        coverage=coverage,
        coverage_se=error,
        calls=sum(used.calls.values()),
        written_mb=written / 2**20,
        note=f"{batch} of {int(metrics['members']):,} members",
    )


def _inside(row: MemberRow) -> list[bool]:
    """Return whether each true coefficient of a member is in its 90% interval."""
    number = int(dict(row.key.values)["key"])
    (one,) = members(number, number + 1)
    intervals = [row.state["summary"][f"b[{term}]"] for term in TERMS] if row.state is not None else []
    return [held["q05"] <= true <= held["q95"] for held, true in zip(intervals, one.truth, strict=True)]
