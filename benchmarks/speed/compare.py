"""Compare two checkouts: ``python -m benchmarks.speed.compare --before CSV ... --after CSV ...``.

Run ``python -m benchmarks.speed.run --quick --only SCENARIO --out CSV`` on both checkouts in turns, so that a
machine that becomes slower during the runs slows both. The ratios, after to before, are medians over links.
The normalised ones are divided by the ratio of PyMC rebuilt for each batch, whose code did not change: they
leave out the part that the machine is responsible for.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from math import isnan
from pathlib import Path
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.speed.measure import LINDLEY, NAN, QUOTED, REBUILT, Row, medians, read

#: Largest ratio that counts as unchanged.
UNCHANGED = 1.1

Key = tuple[str, str, str]


def ratios(before: Iterable[Row], after: Iterable[Row], name: str = "seconds") -> dict[Key, float]:
    """Return the median over links of a column's ratio, after to before, by scenario, method and process.

    Rows of several runs are joined to medians first. Links that only one side has are left out.
    """
    first, second = ({row.key: getattr(row, name) for row in medians(rows)} for rows in (before, after))
    found: dict[Key, list[float]] = {}
    for key in first:
        scenario, method, _, process = key
        if key in second and process != QUOTED and not isnan(first[key] + second[key]):
            found.setdefault((scenario, method, process), []).append(second[key] / first[key])
    return {key: median(values) for key, values in found.items()}


def normalised(found: dict[Key, float]) -> dict[Key, float]:
    """Return ratios divided by those of PyMC in the same scenario and process, where it was measured."""
    return {
        (scenario, method, process): ratio / found[scenario, REBUILT, process]
        for (scenario, method, process), ratio in found.items()
        if (scenario, REBUILT, process) in found
    }


def slower(found: dict[Key, float]) -> bool:
    """Whether Lindley became slower in any scenario, by the normalised ratio if there is one."""
    own = found | normalised(found)
    return any(ratio > UNCHANGED for key, ratio in own.items() if key[1].partition("+")[0] == LINDLEY)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; returns 0, 1 if Lindley became slower, or 2 without common rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--before", nargs="+", type=Path, required=True, metavar="CSV")
    parser.add_argument("--after", nargs="+", type=Path, required=True, metavar="CSV")
    options = parser.parse_args(arguments)
    before = [row for file in options.before for row in read(file)]
    after = [row for file in options.after for row in read(file)]
    seconds, cpu = ratios(before, after), ratios(before, after, "cpu_seconds")
    if not seconds:
        print("The results have no rows in common", file=sys.stderr)
        return 2
    columns = (seconds, normalised(seconds), cpu, normalised(cpu))
    table = Table("scenario", "process", "method", "seconds", "normalised", "CPU seconds", "normalised")
    for scenario, method, process in seconds:
        found = (column.get((scenario, method, process), NAN) for column in columns)
        numbers = ("-" if isnan(value) else f"{value:.2f}" for value in found)
        table.add_row(scenario, process, method, *numbers)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return int(slower(seconds) or slower(cpu))


if __name__ == "__main__":
    sys.exit(main())
