"""Runs the races, kills, tampering and hostile inputs, prints what came of them, and writes results.csv.

Rows of results.csv that are not run again, with --only or --backends, stay as they were.

    python -m tests.faults.run [--races N] [--kills N] [--inputs N] [--only WHAT] [--surfaces NAME]
                               [--backends NAME] [--out FILE]

Exits with 1 when anything was lost, doubled, forked or not detected.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from tests.faults import fuzz, kills, loads, races, tampers
from tests.faults.assessing import Row, read, replaced, write
from tests.faults.attacks import rounds
from tests.faults.writers import Place
from tests.support import servers

console = Console(width=None if sys.stdout.isatty() else 140)
RESULTS = Path(__file__).parent / "results.csv"
PARTS = ["tamper", "attacks", "fuzz", "races", "loads", "kills", "servers"]
#: How often each race is run, and a process is killed at each place.
RACES, KILLS = "LINDLEY_FAULT_RACES", "LINDLEY_FAULT_KILLS"


@dataclass(frozen=True)
class Ground:
    """A ledger to work on, and its server, if it has one."""

    place: Place
    server: servers.Service | None = None


@contextmanager
def sqlite(folder: Path) -> Iterator[Ground]:
    """An embedded ledger."""
    yield Ground(Place(folder, f"sqlite:///{folder / 'mlflow.db'}"))


@contextmanager
def postgres(folder: Path) -> Iterator[Ground]:
    """A tracking server on PostgreSQL, with artifacts in S3."""
    with ExitStack() as stack:
        database = stack.enter_context(servers.postgres())
        access = stack.enter_context(servers.s3(folder))
        address, server = servers.on_postgres(folder, database, access, proxied=False)
        stack.enter_context(server.running())
        yield Ground(Place(folder, address, environment=access), server)


BACKENDS: dict[str, Callable[[Path], object]] = {"sqlite": sqlite, "postgres-s3": postgres}


def all_races(ground: Ground, backend: str, times: int) -> Row:
    """Let 8 writers with 3 batches each race for one chain, again and again."""
    total = Row("race", f"8 writers, 24 batches, {backend}")
    for again in range(times):
        row, said = races.race(replace(ground.place, chain=f"race-{again}"), backend)
        console.print(f"race {again + 1} of {times} on {backend}: {said}, {row.seconds:.0f} s")
        total.add(row)
    return total


def all_kills(ground: Ground, backend: str, times: int) -> Iterator[Row]:
    """Kill writers at every fail-point, and winners under their rivals."""
    for row in kills.every(replace(ground.place, chain="kill"), times):
        yield replace(row, case=f"{row.case}, {backend}")
    for name in kills.WINNER:
        total = Row("kill the winner", f"{name}, {backend}")
        for again in range(times):
            total.add(kills.kill_winner(replace(ground.place, chain=f"winner-{name}-{again}"), name))
        yield total


def all_server_kills(ground: Ground, backend: str, times: int) -> Iterator[Row]:
    """Kill the server under writers, if there is one."""
    if ground.server is None:
        return
    for name in kills.SERVER_AT:
        total = Row("kill the server", f"{name}, {backend}")
        for again in range(times):
            place = replace(ground.place, chain=f"server-{name}-{again}")
            row, said = kills.kill_server(place, ground.server, name, pause=0.3 * again)
            console.print(f"server killed at {name} + {0.3 * again:.1f} s: {said}")
            total.add(row)
        yield total


def all_tampers() -> list[Row]:
    """Try every change, and print the matrix."""
    changes = list(tampers.every_change())
    table = Table("what", "change", "expected", "found", title="Tampering: not found, or not as expected")
    for change in changes:
        if not change.as_expected or not change.found or change.found == "R19w":
            table.add_row(change.group, change.what, change.expected, change.found or "nothing")
    console.print(table)
    return tampers.matrix(changes)


def all_attacks(surfaces: list[str]) -> list[Row]:
    """Make every try on these surfaces, print what is not as expected, and write its table."""
    rows: dict[str, Row] = {}
    for as_expected, entry in rounds.main(surfaces):
        row = rows.setdefault(entry["surface"], Row("attack", entry["surface"]))
        row.add(Row("", "", 1, undetected=not as_expected))
        if not as_expected:
            console.print(
                f"[bold red]{entry['tried']}: {entry['measured']}, not {entry['expected']}[/bold red]"
            )
    return list(rows.values())


def print_rows(rows: list[Row]) -> None:
    table = Table("test", "case", *(["runs", "lost", "doubled", "forked", "undetected", "seconds"]))
    for row in rows:
        counts = [str(n) for n in (row.runs, row.lost, row.doubled, row.forked, row.undetected)]
        style = "" if row.ok else "bold red"
        table.add_row(row.test, row.case, *counts, f"{row.seconds:.1f}", style=style)
    console.print(table)


def on_backend(name: str, what: set[str], options: argparse.Namespace) -> Iterator[Row]:
    """Run what is asked for on one backend; say so loudly when it is not installed."""
    with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
        try:
            with BACKENDS[name](Path(folder)) as ground:  # type: ignore[attr-defined]
                if "races" in what:
                    yield all_races(ground, name, options.races)
                if "loads" in what:
                    for row in loads.every(ground.place):
                        yield replace(row, case=f"{row.case}, {name}")
                if "kills" in what:
                    yield from all_kills(ground, name, options.kills)
                if "servers" in what:
                    yield from all_server_kills(ground, name, options.kills)
        except pytest.skip.Exception as skipped:
            console.print(f"[bold yellow]SKIPPED {name}: {skipped.msg}[/bold yellow]")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--races", type=int, default=int(os.environ.get(RACES, "20")))
    parser.add_argument("--kills", type=int, default=int(os.environ.get(KILLS, "5")))
    parser.add_argument("--inputs", type=int, default=fuzz.COUNT)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--surfaces", nargs="*", choices=rounds.NAMES, default=list(rounds.NAMES))
    parser.add_argument("--backends", nargs="*", default=list(BACKENDS))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    started, rows = time.monotonic(), list[Row]()
    # What is not run this time stays as it was.
    before = read(options.out)
    if "tamper" in options.only:
        rows += all_tampers()
    if "attacks" in options.only:
        rows += all_attacks(options.surfaces)
    if "fuzz" in options.only:
        rows += fuzz.main(options.inputs)
    for name in options.backends:
        if {"races", "loads", "kills", "servers"} & set(options.only):
            for row in on_backend(name, set(options.only), options):
                rows.append(row)
                # What was done stays written when a later one does not end.
                write(replaced(before, rows), options.out)
    write(replaced(before, rows), options.out)
    print_rows(rows)
    console.print(
        f"{sum(row.runs for row in rows)} runs in {time.monotonic() - started:.0f} s: {options.out}"
    )
    return 0 if rows and all(row.ok for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
