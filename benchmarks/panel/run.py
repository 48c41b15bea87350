"""Run the benchmark of panels: ``python -m benchmarks.panel.run``; see README.md."""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from benchmarks.panel import chain, engine, page, rivals
from benchmarks.panel.measured import COLUMNS, Measured

RESULTS = Path(__file__).parent / "results.csv"
QUICK_RESULTS = Path(__file__).parents[2] / ".benchmarks" / "panel.csv"
#: Links of the engine: one from the model's priors, then updates of all members.
LINKS = 4
#: Members of each method: of a full run, and of a quick one.
MEMBERS = {
    "chain": (10_000, 20),
    "auto": (10_000, 60),
    "nuts": (1_000, 20),
    "nutpie, compiled once": (1_000, 20),
    "pm.sample a key": (10, 2),
}
#: Factor by which moments as precise are to be had with less CPU.
FASTER = 5.0
#: Limits of an update of the chain: seconds by batch, calls of MLflow's client, megabytes of a process, and
#: standard errors between coverage and 0.9.
MOST_SECONDS = {chain.ALL: 1200.0, chain.HUNDREDTH: 30.0}
MOST_CALLS, MOST_MB, _ERRORS = 60, 3072.0, 3.0
#: What identifies a row of results.csv.
_KEY = ("scenario", "method", "link")
#: Columns that are shown.
_SHOWN = (
    "method", "link", "members", "seconds", "cpu_ms_per_member", "peak_mb", "approximations", "nuts",
    "failed", "ess", "match_ess", "ess_per_cpu_second", "match_ess_per_cpu_second", "coverage", "coverage_se",
    "calls", "written_mb",
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, or 1 where a member failed, a rival is too close (see `FASTER`), or the
    chain is beyond its limits (see `MOST_SECONDS`).
    """
    options = _options(arguments)
    rows = []
    with threadpool_limits(limits=1):
        for measured in _measured(options):
            rows.append(measured)
            print(f"{measured.method}, link {measured.link}: {measured.seconds:.1f} s", flush=True)
            _write(options.out, rows)
    _show(rows)
    if options.out.resolve() == RESULTS.resolve():
        page.write()
    return 0 if _good(rows) else 1


def _measured(options: argparse.Namespace) -> Iterator[Measured]:
    """Yield the rows of the chosen methods."""
    for method, (many, few) in MEMBERS.items():
        if options.only and method not in options.only:
            continue
        count = few if options.quick else many
        count = min(count, options.members) if options.members else count
        if method == "chain":
            with _place(options.place) as root:
                yield from chain.run(count, options.updates, options.jobs, root)
        elif method in rivals.METHODS:
            yield rivals.run(method, count)
        else:
            yield from engine.run(count, LINKS, options.jobs, method)


def _good(rows: Sequence[Measured]) -> bool:
    """Whether no member failed, and moments as precise take a fifth of the CPU of every rival's at most."""

    def cost(one: Measured) -> float:
        return one.cpu_seconds / (one.match_ess * one.members)

    first = [one for one in rows if one.method.endswith(", auto") and one.link == 1]
    others = [one for one in rows if one.method in rivals.METHODS]
    faster = all(cost(mine) < cost(other) / FASTER for mine in first for other in others)
    kept = all(_within(one) for one in rows if one.scenario == chain.SCENARIO)
    return faster and kept and not any(one.failed for one in rows)


def _within(one: Measured) -> bool:
    """Whether an update of the chain is within the limits, as far as they are for its size."""
    covers = np.isnan(one.coverage_se) or abs(one.coverage - 0.9) <= _ERRORS * one.coverage_se
    seconds = MOST_SECONDS[chain.HUNDREDTH if one.note.startswith(chain.HUNDREDTH) else chain.ALL]
    return bool(covers and one.calls <= MOST_CALLS and one.peak_mb < MOST_MB and one.seconds < seconds)


@contextmanager
def _place(chosen: Path | None) -> Iterator[Path]:
    """Give the working folder of the chain: the chosen one, which stays, or a temporary one."""
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="lindley-bench-") as scratch:
        yield Path(scratch)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.panel.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few members of every method")
    parser.add_argument("--members", type=int, help="members of each method at most")
    parser.add_argument("--only", nargs="+", choices=tuple(MEMBERS), metavar="METHOD", help="some methods")
    parser.add_argument("--jobs", type=int, default=2, help="processes of the engine")
    parser.add_argument(
        "--updates",
        nargs="+",
        choices=(chain.ALL, chain.HUNDREDTH),
        default=[chain.ALL] * LINKS + [chain.HUNDREDTH],
        help="batches of the chain: rows of all members or of 1%% of them",
    )
    parser.add_argument("--place", type=Path, help="working folder of the chain, which goes on from its head")
    parser.add_argument("--out", type=Path, help="another place for results.csv")
    options = parser.parse_args(arguments)
    if options.out is None:
        # Only a run of everything replaces the file.
        whole = not (options.quick or options.members or options.only)
        options.out = RESULTS if whole else QUICK_RESULTS
    return options


def _write(path: Path, rows: Sequence[Measured]) -> None:
    """Write rows; methods that were not run keep theirs."""
    mine = {(row.scenario, row.method, str(row.link)) for row in rows}
    kept: list[dict[str, object]] = []
    if path.is_file():
        with path.open(newline="") as file:
            kept += [row for row in csv.DictReader(file) if tuple(row[name] for name in _KEY) not in mine]
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*(row.as_row() for row in rows), *kept])


def _show(rows: Sequence[Measured]) -> None:
    table = Table(*_SHOWN)
    for one in rows:
        row = one.as_row()
        table.add_row(*(str(row[name]) for name in _SHOWN))
    Console(width=None if sys.stdout.isatty() else 170).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
