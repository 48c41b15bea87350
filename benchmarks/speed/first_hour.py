"""The first hour of a new model: each command in a new process, all caches on disk empty at its beginning."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks.speed.cold import child
from benchmarks.speed.measure import COLD, SAMPLE, UNCHANGED, UPDATE, Row, in_turns, stopwatch
from benchmarks.speed.streams import Bench
from flows import project

SCENARIO, CHAIN = "first_hour", "daily_sales"
#: The folder of that model: the example of `lindley init`, which is README's.
MODELS = Path(project.__file__).parent / "files" / "models"
#: Updates of a new chain, of three rows each, as in README.
LINKS = 2


def first_hour(bench: Bench) -> None:
    """Two updates of README's model beside `pm.sample`, then commands that change nothing."""
    for turn in range(1 if bench.quick else 3):
        bench.notify(f"first hour: run {turn + 1}")
        files = batches(bench.fresh("batches"))
        lindley = commands(bench)
        caches = {"PYTENSOR_FLAGS": f"base_compiledir={bench.fresh('pymc-caches')}"}
        for link, file in enumerate(files, start=1):
            update = (UPDATE, partial(lindley, "update", "--direct", CHAIN, str(file)))
            sample = (SAMPLE, partial(child, "benchmarks.speed.fresh", str(file), environment=caches))
            for method, work in in_turns((update, sample), turn + link):
                emit(bench, method, link, work)
        given = {
            "no_op": ("update", "--direct", CHAIN, str(files[-1])),
            "log": ("log", CHAIN),
            "show": ("show", f"{CHAIN}@head"),
            "chains": ("chains",),
        }
        for method in in_turns(UNCHANGED, turn):
            emit(bench, method, LINKS, partial(lindley, *given[method]))


def commands(bench: Bench) -> Callable[..., None]:
    """Return a function that runs a command of Lindley in a new working folder with empty caches."""
    workspace = bench.workspace(MODELS)
    own = {
        "LINDLEY_HOME": str(workspace.root),
        "LINDLEY_MODELS": str(workspace.models),
        "PYTENSOR_FLAGS": f"base_compiledir={bench.fresh('lindley-caches')}",
    }
    return partial(child, "flows.cli", environment=own)


def batches(folder: Path) -> list[Path]:
    """Write the batches of README's first weeks."""
    files = []
    for week in range(LINKS):
        days = pd.date_range("2026-01-01", periods=3).shift(3 * week, freq="D").strftime("%Y-%m-%d")
        frame = pd.DataFrame({"day": days, "price": [2.0, 2.5, 1.5], "units": [9 + week, 8, 14 - week]})
        files.append(folder / f"week{week + 1}.csv")
        frame.to_csv(files[-1], index=False)
    return files


def emit(bench: Bench, method: str, link: int, work: Callable[[], None]) -> None:
    """Measure a process and hand on its row."""
    _, taken = stopwatch(work)
    bench.emit(
        Row(
            scenario=SCENARIO,
            method=method,
            link=link,
            seconds=taken.seconds,
            cpu_seconds=taken.cpu_seconds,
            process=COLD,
        )
    )
