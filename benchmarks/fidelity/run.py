"""Run the fidelity benchmark: ``python -m benchmarks.fidelity.run --cases FOLDER``; see README.md."""

from __future__ import annotations

import argparse
import csv
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fidelity import compare, methods, simulations, streams
from benchmarks.fidelity.cases import CASES, FILES, CaseRefused, load_cases, regular_case

RESULTS = Path(__file__).parent / "results.csv"
QUICK_RESULTS = Path(__file__).parents[2] / ".benchmarks" / "results.csv"
#: Cases of --quick, by the start of their names; elsewhere the four with the smallest data.
QUICK = ("sblri", "earnings", "eight_schools", "dogs")
#: Streams of --quick with `thin` and `together` of `streams.run_stream`; and the policies.
QUICK_STREAMS = {"nes_waves": (1, 1), "elec2": (20, 3)}
QUICK_POLICIES = ("static", "grid")
#: Simulation, number of streams or updates, and that of --quick.
SIMULATIONS: dict[str, tuple[Callable[[int], list[dict[str, Any]]], int, int]] = {
    "correlated regression": (simulations.regression_coverage, 1000, 100),
    "rate of 0.02": (simulations.rate_coverage, 500, 60),
    "long chain": (simulations.long_chain, 200, 40),
}


@dataclass
class Part:
    """Result of one piece of work; pieces run in any order, each in a process of its own.

    Parameters
    ----------
    kind, name
        ``case``, ``simulation`` or ``stream``, and its name.
    rows
        Its rows of the kind's file.
    seconds
        Wall-clock seconds by case and method.
    notes
        Flags with their reasons, and failures.
    regular
        Whether a case is regular.
    failed
        Whether there is no result.
    """

    kind: str
    name: str
    rows: list[dict[str, Any]] = field(default_factory=list)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    regular: bool = False
    failed: bool = False


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, 1 (a defect, a failure or a missed bar) or 2 (nothing to run)."""
    begun = time.perf_counter()
    options = _options(arguments)
    # Without a terminal rich would cut the tables at 80 columns.
    console = Console(width=None if sys.stdout.isatty() else 150)
    try:
        names = _chosen(options.cases, options.only, options.quick)
    except FileNotFoundError as error:
        print(error, file=sys.stderr)
        return 2
    parts = []
    for part in _work(_planned(options, names), options.jobs, begun + 60 * options.minutes):
        parts.append(part)
        took = time.perf_counter() - begun
        console.print(f"{took:6.0f} s  {part.kind} {part.name}{': failed' if part.failed else ''}")
        for note in part.notes:
            console.print(f"          {note}", markup=False, highlight=False)
    parts.sort(key=lambda part: (part.kind, part.name))
    good = _report(console, parts, names, options.out)
    console.print(f"total time {time.perf_counter() - begun:.0f} s with {options.jobs} process(es)")
    return 0 if good else 1


def run_case(folder: Path, name: str, sampler: str = "nuts") -> Part:
    """Run a case by all methods, with a policy's sampler."""
    part = Part("case", name)
    batches = 0
    try:
        (case,) = load_cases(folder, [name])
        part.regular, batches = case.regular, len(case.batches)
        policy = replace(case.declaration.policy, sampler=sampler)
        case = replace(case, declaration=replace(case.declaration, policy=policy))
    except Exception as error:
        part.notes.append(_failure("the case", error))
        part.failed = True
        part.rows = [compare.failed_row(name, batches, method) for method in methods.METHODS]
        return part
    for method in methods.METHODS:
        try:
            outcome = methods.run(case, method)
            part.rows += compare.rows_of(case, method, outcome)
            part.seconds[name, method] = outcome.seconds
            part.notes += [f"{method}: {note}" for note in (*outcome.notes, *outcome.flags)]
        except Exception as error:
            part.notes.append(_failure(method, error))
            part.rows.append(compare.failed_row(name, batches, method))
            part.failed |= method == "lindley"
    return part


def run_simulation(name: str, quick: bool) -> Part:
    """Run one of `SIMULATIONS`."""
    simulate, many, few = SIMULATIONS[name]
    return Part("simulation", name, rows=simulate(few if quick else many))


def run_stream(folder: Path, name: str, method: str, thin: int, together: int) -> Part:
    """Run a stream by one method."""
    row = streams.run_stream(folder, name, method, thin, together)
    return Part("stream", f"{name}, {method}", rows=[row])


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fidelity.run", description=__doc__)
    parser.add_argument("--cases", type=Path, default=CASES, help="folder of cases")
    parser.add_argument("--streams", type=Path, default=streams.FOLDER, help="folder of the four streams")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="cases whose names start with one of these")
    parser.add_argument("--quick", action="store_true", help="few cases, small simulations and streams")
    parser.add_argument("--out", type=Path, help="results.csv; the others go beside it")
    parser.add_argument("--jobs", type=int, default=2, help="processes; 1 runs everything in this one")
    parser.add_argument("--minutes", type=float, default=60, help="what is unfinished then counts as failed")
    parser.add_argument("--thin", type=int, default=1, metavar="N", help="only every N-th row of elec2")
    parser.add_argument(
        "--refitted", action="store_true", help="also streams refitted when drift exceeds its budget"
    )
    parser.add_argument("--sampler", choices=("nuts", "auto"), default="nuts", help="of the cases' policy")
    parser.add_argument("--skip-cases", action="store_true")
    parser.add_argument("--skip-simulations", action="store_true")
    parser.add_argument("--skip-streams", action="store_true")
    options = parser.parse_args(arguments)
    if options.out is None:
        # A quick run never replaces a full one.
        options.out = QUICK_RESULTS if options.quick else RESULTS
        if options.sampler != "nuts":
            options.out = QUICK_RESULTS.with_name(f"results-{options.sampler}.csv")
    return options


def _chosen(folder: Path, only: Sequence[str] | None, quick: bool) -> list[str]:
    """Return the names of the cases to run.

    Raises
    ------
    FileNotFoundError
        If the folder or a requested case does not exist.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}: give the folder of cases with --cases")
    wanted = " with " + ", ".join(FILES)
    sizes = {
        path.parent.name: path.stat().st_size
        for path in sorted(folder.glob(f"*/{FILES[0]}"))
        if all((path.parent / name).is_file() for name in FILES)
    }
    if not sizes:
        raise FileNotFoundError(f"{folder} holds no case: a subfolder{wanted}")
    unknown = [name for name in only or () if not any(case.startswith(name) for case in sizes)]
    if unknown:
        raise FileNotFoundError(f"{folder} holds no case {', '.join(unknown)}, only {', '.join(sizes)}")
    if only:
        return [case for case in sizes if case.startswith(tuple(only))]
    if quick:
        known = [case for case in sizes if case.startswith(QUICK)]
        return known or sorted(sorted(sizes, key=lambda case: sizes[case])[: len(QUICK)])
    return list(sizes)


def _planned(options: argparse.Namespace, names: Sequence[str]) -> list[tuple[Part, Callable[[], Part]]]:
    """Return the pieces of work, the longest first, each with the result to report if it fails."""
    plan: list[tuple[Part, Callable[[], Part]]] = []
    if not options.skip_streams:
        if options.streams.is_dir():
            full = dict.fromkeys(streams.STREAMS, (1, 1)) | {"elec2": (options.thin, 1)}
            # The one with the most rows first.
            for name, cut in reversed((QUICK_STREAMS if options.quick else full).items()):
                for method in _policies(options):
                    work = partial(run_stream, options.streams, name, method, *cut)
                    plan.append((Part("stream", f"{name}, {method}", failed=True), work))
        else:
            print(f"There is no folder {options.streams}: the streams are left out (--streams)")
    if not options.skip_simulations:
        plan += [
            (Part("simulation", name, failed=True), partial(run_simulation, name, options.quick))
            for name in SIMULATIONS
        ]
    if not options.skip_cases:
        hard = [name for name in names if not _is_short(options.cases / name)]
        plan = [*_cases(options, hard), *plan]
        plan += _cases(options, [name for name in names if name not in hard])
    return plan


def _policies(options: argparse.Namespace) -> Sequence[str]:
    """Return the policies to run the streams with."""
    if options.quick:
        return QUICK_POLICIES
    return [name for name in streams.POLICIES if options.refitted or name != "refitted"]


def _cases(options: argparse.Namespace, names: Sequence[str]) -> list[tuple[Part, Callable[[], Part]]]:
    return [
        (
            Part(
                "case",
                name,
                rows=[compare.failed_row(name, 0, method) for method in methods.METHODS],
                failed=True,
            ),
            partial(run_case, options.cases, name, options.sampler),
        )
        for name in names
    ]


def _is_short(folder: Path) -> bool:
    """Whether a case runs quickly: a plain regression, or one that cannot be read and fails at once."""
    try:
        return regular_case(folder)
    except (CaseRefused, OSError):
        return True


def _work(plan: Sequence[tuple[Part, Callable[[], Part]]], jobs: int, deadline: float) -> Iterator[Part]:
    """Yield finished pieces; one that raises or is late yields its stand-in with the reason."""
    if jobs == 1:
        for lost, work in plan:
            yield _tried(lost, work) if time.perf_counter() < deadline else _late(lost)
        return
    # Spawned, because a fork would inherit the locks of numerical libraries in any state.
    with ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(work): lost for lost, work in plan}
        try:
            for done in as_completed(list(running), timeout=max(0.0, deadline - time.perf_counter())):
                yield _tried(running.pop(done), done.result)
        except TimeoutError:
            for process in multiprocessing.active_children():
                process.kill()
            yield from map(_late, running.values())


def _late(lost: Part) -> Part:
    lost.notes.append("not done in time (--minutes)")
    return lost


def _tried(lost: Part, work: Callable[[], Part]) -> Part:
    try:
        return work()
    except Exception as error:
        lost.notes.append(_failure(lost.name, error))
        return lost


def _failure(what: str, error: Exception) -> str:
    where = traceback.extract_tb(error.__traceback__)
    at = f" ({Path(where[-1].filename).name}:{where[-1].lineno})" if where else ""
    return f"{what} failed: {type(error).__name__}: {' '.join(str(error).split())[:500]}{at}"


def _report(console: Console, parts: Sequence[Part], names: Sequence[str], out: Path) -> bool:
    """Print tables, write the files; returns whether there is no defect, failure or missed bar."""
    out.parent.mkdir(parents=True, exist_ok=True)
    by_kind = {
        kind: [part for part in parts if part.kind == kind] for kind in ("case", "simulation", "stream")
    }
    good = True
    if by_kind["case"]:
        rows = [row for part in by_kind["case"] for row in part.rows]
        regular = {part.name: part.regular for part in by_kind["case"]}
        seconds = {key: value for part in by_kind["case"] for key, value in part.seconds.items()}
        _write(out, compare.COLUMNS, rows)
        console.print(compare.table(rows, regular, seconds))
        counts = compare.count(rows, regular)
        console.print(
            f"{counts.cases} cases: {counts.right} right, {counts.defects} defects (wrong and not flagged, "
            f"or failed), {counts.nuisances} nuisances (right but flagged), {counts.warned} warned "
            f"(wrong and flagged), {counts.missed} of them regular"
        )
        good &= counts.defects == 0 and counts.missed == 0
    if by_kind["simulation"]:
        rows = [row for part in by_kind["simulation"] for row in part.rows]
        _write(out.with_name("simulations.csv"), simulations.COLUMNS, rows)
        console.print(_simulated(rows))
        missed = sum(row["met"] is False for row in rows)
        console.print(f"simulations: {missed} bars missed")
        good &= missed == 0
    if by_kind["stream"]:
        order = list(streams.POLICIES)
        rows = [row for part in by_kind["stream"] for row in part.rows]
        rows.sort(key=lambda row: (row["stream"], order.index(row["method"])))
        _write(out.with_name("streams.csv"), streams.COLUMNS, rows)
        console.print(streams.table(rows))
        wrong = sum(streams.wrong(row) for row in rows)
        console.print(f"streams: {wrong} defects (static chains that are wrong and not flagged)")
        good &= wrong == 0
    failed = [f"{part.kind} {part.name}" for part in parts if part.failed]
    if failed:
        console.print(f"failed: {', '.join(failed)}")
    return good and not failed


def _simulated(rows: Sequence[dict[str, Any]]) -> Table:
    """Return the table of simulations."""
    shown = Table(title="Simulated streams")
    for name in ("simulation", "method", "update", "metric", "value", "bar", ""):
        shown.add_column(name, justify="right" if name in ("update", "value", "bar") else "left")
    for row in rows:
        error = row["standard_error"]
        spread = f" ± {error:.4f}" if np.isfinite(error) else ""
        bar = f"{row['low']:.3f} to {row['high']:.3f}" if row["met"] != "" else ""
        word = {True: "met", False: "MISSED", "": ""}[row["met"]]
        shown.add_row(
            row["simulation"],
            row["method"],
            str(row["update"]),
            row["metric"],
            f"{row['value']:.4f}{spread}",
            bar,
            word,
        )
    return shown


def _write(path: Path, columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _text(row[name]) for name in columns})


def _text(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


if __name__ == "__main__":
    sys.exit(main())
