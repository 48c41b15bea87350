"""Run the speed benchmark: ``python -m benchmarks.speed.run``; see README.md."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.speed.bars import all_bars
from benchmarks.speed.measure import SCENARIOS, Row, from_dict, medians, ordered, read, write
from benchmarks.speed.page import Ran, machine, read_runs, versions, write_page, write_runs
from flows.environment import ALWAYS
from flows.server.processes import end_tree

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "data" / "reference"
RESULTS = Path(__file__).with_name("results.csv")
PAGE = ROOT / "docs" / "performance.md"
#: A file of the reference data, to recognise its folder.
STREAM = Path("article/regression_batches.parquet")
#: One thread for all methods: with small matrices more threads cost more than they save.
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
FINISHED, LATE = "finished", "not done in time (--minutes)"


@dataclass
class Part:
    """Result of a scenario."""

    scenario: str
    outcome: str = FINISHED
    minutes: float = 0.0
    rows: list[Row] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, 1 (a failure, a missed bar, not done in time) or 2 (nothing to run)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    options = _options(given)
    # Without a terminal rich would cut the tables at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 150)
    if not (options.reference / STREAM).is_file():
        print(
            f"There is no {STREAM} in {options.reference}: give the folder with --reference", file=sys.stderr
        )
        return 2
    deadline = time.monotonic() + 60 * options.minutes
    wanted = [name for name in SCENARIOS if not options.only or name in options.only]
    # Scenarios that are not run keep their rows.
    rows = [row for row in read(options.out) if row.scenario not in wanted]
    how = options.out.with_name(f"{options.out.stem}-runs.json")
    runs = {name: ran for name, ran in read_runs(how).items() if name not in wanted}
    notify = partial(console.print, markup=False, highlight=False)
    for name in wanted:
        part = measure(name, options, deadline, notify)
        rows += medians(part.rows)
        runs[name] = Ran(
            date=datetime.now(UTC).date().isoformat(),
            outcome=part.outcome,
            minutes=round(part.minutes, 1),
            command=_command(given),
            machine=machine(),
            versions=versions(),
        )
        # After each scenario, so that a later failure loses nothing.
        write(options.out, ordered(rows))
        write_runs(how, runs)
        if options.page is not None:
            write_page(options.page, ordered(rows), runs)
    return 0 if _report(console, ordered(rows), runs, wanted) else 1


def measure(name: str, options: argparse.Namespace, deadline: float, notify: Callable[[str], None]) -> Part:
    """Run a scenario in a process of its own, until the deadline."""
    part = Part(name)
    begun = time.monotonic()
    if begun >= deadline:
        part.outcome = LATE
        return part
    scratch = Path(tempfile.mkdtemp(prefix="lindley-speed-"))
    notify(f"{name} begins")
    try:
        _run(part, scratch, options, deadline, notify)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        part.minutes = (time.monotonic() - begun) / 60
    notify(f"{name}: {part.outcome}, {part.minutes:.1f} minutes")
    return part


def _run(
    part: Part, scratch: Path, options: argparse.Namespace, deadline: float, notify: Callable[[str], None]
) -> None:
    """Run a scenario's process, take its rows and messages as they come, and end it at the deadline."""
    lines, log = scratch / "lines.jsonl", scratch / "log.txt"
    lines.touch()
    command = [sys.executable, "-m", "benchmarks.speed.worker", part.scenario]
    command += ["--folder", str(scratch), "--lines", str(lines)]
    command += ["--reference", str(options.reference.resolve())]
    # Caches on disk of its own: the user's hold the models of earlier runs.
    flags = [os.environ.get("PYTENSOR_FLAGS", ""), f"base_compiledir={scratch / 'pytensor'}"]
    caches = {"PYTENSOR_FLAGS": ",".join(filter(None, flags))}
    with log.open("wb") as output, lines.open(encoding="utf-8") as source:
        process = subprocess.Popen(
            [*command, *(["--quick"] if options.quick else [])],
            env=os.environ | ALWAYS | THREADS | caches,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            while process.poll() is None and time.monotonic() < deadline:
                _take(part, source.readlines(), notify)
                time.sleep(0.5)
            if process.poll() is None:
                part.outcome = LATE
        finally:
            end_tree(process.pid)
            process.wait()
        _take(part, source.readlines(), notify)
    if part.outcome == FINISHED and process.returncode:
        output_lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        part.outcome = f"failed (exit code {process.returncode})"
        notify("\n".join(output_lines[-25:]))


def _take(part: Part, lines: Sequence[str], notify: Callable[[str], None]) -> None:
    for line in lines:
        document = json.loads(line)
        if "notify" in document:
            notify(document["notify"])
            continue
        row = from_dict(document["row"])
        part.rows.append(row)
        notify(
            f"  {row.scenario} {row.process} link {row.link} {row.method}: {row.seconds:.2f} s, "
            f"CPU {row.cpu_seconds:.2f} s, ESS {row.ess_min:.0f}, error {row.mean_error_sd:.3f} sd, "
            f"{row.mean_error_mcse:.1f} mcse, {row.gate}"
        )


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.run", description=__doc__)
    parser.add_argument("--reference", type=Path, default=REFERENCE, help="folder of the reference data")
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--quick", action="store_true", help="few links, one run of each")
    parser.add_argument("--out", type=Path, help="results.csv; how it was run goes beside it")
    parser.add_argument("--page", type=Path, help="the page whose generated part is written")
    parser.add_argument("--minutes", type=float, default=180, help="what is unfinished then is stopped")
    options = parser.parse_args(arguments)
    if options.out is None:
        # A quick run never replaces a full one.
        options.out = ROOT / ".benchmarks" / "speed.csv" if options.quick else RESULTS
        options.page = options.page or (None if options.quick else PAGE)
    return options


def _command(given: Sequence[str]) -> str:
    """Return the command without the folders of this machine."""
    kept, skip = [], False
    for word in given:
        if skip:
            skip = False
        elif word in ("--reference", "--out", "--page"):
            skip = True
        elif not word.startswith(("--reference=", "--out=", "--page=")):
            kept.append(word)
    return " ".join(["python -m benchmarks.speed.run", *kept])


def _report(console: Console, rows: Sequence[Row], runs: dict[str, Ran], wanted: Sequence[str]) -> bool:
    """Print the bars; returns whether none is missed and every requested scenario finished."""
    bars = all_bars(rows)
    shown = Table(title="Bars")
    for name in ("bar", "measured", ""):
        shown.add_column(name)
    for bar in bars:
        shown.add_row(bar.text, bar.found or "-", bar.word)
    console.print(shown)
    unfinished = [f"{name} ({runs[name].outcome})" for name in wanted if not runs[name].finished]
    if unfinished:
        console.print(f"not finished: {', '.join(unfinished)}")
    return not unfinished and all(bar.met is not False for bar in bars)


if __name__ == "__main__":
    sys.exit(main())
