"""Measure times in turns, and keep them as rows."""

from __future__ import annotations

import csv
import gc
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from statistics import median
from typing import Any

import psutil

SCENARIOS = ("warm", "cold", "first_hour", "growth", "orchestration", "sir_article", "hierarchical")
#: Methods; those of the scenario orchestration are `LINDLEY` with the services in use, joined by a plus.
LINDLEY, SAMPLING, REBUILT = "lindley", "sampling_alone", "pymc_rebuilt"
REFIT, ARTICLE = "pooled_refit", "pymc3_article"
#: Methods of the scenario first_hour: an update and PyMC's sampling of its rows; then what changes nothing.
UPDATE, SAMPLE = "update", "pm_sample"
UNCHANGED = ("no_op", "log", "show", "chains")
#: Columns of results.csv; those after ``ess_min`` state the conditions under which the times count.
COLUMNS = (
    *("scenario", "method", "link", "seconds", "cpu_seconds", "ess_min"),
    *("process", "repeats", "mean_error_sd", "mean_error_mcse", "gate"),
)
#: Columns that the repeats of an update share.
KEY = ("scenario", "method", "link", "process")
#: Values of ``process``: it has updated before, it starts with the update, or the numbers were measured
#: elsewhere.
WARM, COLD, QUOTED = "warm", "cold", "quoted"
#: Values of ``gate``.
PASSED, REFUSED, UNKNOWN = "passed", "refused", ""

NAN = float("nan")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured update, or the medians of several.

    Parameters
    ----------
    scenario, method, link
        Identify the update; `link` is its place in the chain, from 1.
    seconds, cpu_seconds
        Wall clock, and CPU of the process with all its children, servers among them.
    ess_min
        Smallest bulk or tail effective sample size of any parameter.
    process
        ``warm``, ``cold`` or ``quoted``.
    repeats
        Number of updates that the row is the median of.
    mean_error_sd, mean_error_mcse
        Largest difference of a mean from the reference posterior's, in its sds and in Monte Carlo
        standard errors (see `benchmarks.speed.assessment`).
    gate
        Whether the gate's limits on R-hat, ESS and divergences hold; empty if unknown.
    """

    scenario: str
    method: str
    link: int
    seconds: float
    cpu_seconds: float
    ess_min: float = NAN
    process: str = WARM
    repeats: int = 1
    mean_error_sd: float = NAN
    mean_error_mcse: float = NAN
    gate: str = UNKNOWN

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def key(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in KEY)


@dataclass(frozen=True)
class Taken:
    """Wall-clock and CPU seconds of a piece of work."""

    seconds: float
    cpu_seconds: float


def stopwatch[T](work: Callable[[], T]) -> tuple[T, Taken]:
    """Do a piece of work after a garbage collection; returns its result and its times."""
    gc.collect()
    cpu, begun = cpu_seconds(), time.perf_counter()
    result = work()
    took = time.perf_counter() - begun
    return result, Taken(took, cpu_seconds() - cpu)


def cpu_seconds() -> float:
    """Return the CPU seconds of this process, of its children that ended and of those that still run.

    A child counts once: among the living, or among those that were waited for.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        try:
            spent = child.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += spent.user + spent.system + spent.children_user + spent.children_system
    return total


def in_turns[T](contenders: Sequence[T], turn: int) -> list[T]:
    """Return the contenders in the order of a turn: forwards in even ones, backwards in odd ones.

    A machine that becomes slower or faster during a run then favours no method.
    """
    return list(contenders) if turn % 2 == 0 else list(reversed(contenders))


def medians(rows: Iterable[Row]) -> list[Row]:
    """Return one row per scenario, method, link and process: medians, and refused if one of them is.

    The order is that in which the groups first came.
    """
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(row.key, []).append(row)
    return [_middle(group) for group in groups.values()]


def _middle(group: Sequence[Row]) -> Row:
    numbers = ("seconds", "cpu_seconds", "ess_min", "mean_error_sd", "mean_error_mcse")
    middle = {name: _median([getattr(row, name) for row in group]) for name in numbers}
    gates = {row.gate for row in group}
    gate = next((word for word in (REFUSED, UNKNOWN) if word in gates), PASSED)
    common = dict(zip(KEY, group[0].key, strict=True))
    return Row(**common, **middle, repeats=sum(row.repeats for row in group), gate=gate)


def _median(values: Sequence[float]) -> float:
    """Return the median of the known values."""
    known = [value for value in values if not isnan(value)]
    return median(known) if known else NAN


def ordered(rows: Iterable[Row]) -> list[Row]:
    """Return rows by scenario; those of a scenario keep their order."""
    return sorted(rows, key=lambda row: SCENARIOS.index(row.scenario))


def write(path: Path, rows: Iterable[Row]) -> None:
    """Write rows as a CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _text(value) for name, value in row.as_dict().items()})


def read(path: Path) -> list[Row]:
    """Read the rows of a CSV file; none if there is no file."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [from_dict(row) for row in csv.DictReader(file)]


def from_dict(values: Mapping[str, Any]) -> Row:
    """Return the row of a mapping with values or their text."""
    whole, texts = {"link", "repeats"}, {"scenario", "method", "process", "gate"}

    def typed(name: str, value: Any) -> Any:
        if name in texts:
            return str(value)
        if name in whole:
            return int(value)
        return NAN if value in ("", None) else float(value)

    return Row(**{name: typed(name, values[name]) for name in COLUMNS})


def _text(value: Any) -> Any:
    if isinstance(value, float):
        return "" if isnan(value) else f"{value:.5g}"
    return value
