"""Follow a source that grows and is revised: ``python -m benchmarks.vintages.run``; see README.md."""

from __future__ import annotations

import argparse
import csv
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import islice
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks.between import write_between
from benchmarks.speed.measure import in_turns, stopwatch
from benchmarks.speed.page import machine
from benchmarks.speed.posterior import Found, Reference
from benchmarks.vintages.methods import COMPILED, METHODS, PULL_JOBS, PULLS, REFIT_JOBS, REFITS, Method, Pulls
from benchmarks.vintages.versions import exact, versions

HERE = Path(__file__).parent
BEGIN, END = "<!-- written by make bench-vintages: begin -->", "<!-- written by make bench-vintages: end -->"
#: Bars: the error of the last belief in posterior sds, and the share of the cost of refitting.
MOST_ERROR, MOST_COST = 0.05, 0.5
QUICK = 6


@dataclass(frozen=True)
class Row:
    """What one method did with one version.

    Parameters
    ----------
    as_of, rows, new, revised
        The version, and its numbers of rows.
    method, fits
        The method, and how many fits it made.
    seconds, cpu_seconds
        Wall clock, and CPU with all children.
    mean_error, log_sd_error
        Largest difference from the exact posterior: of a mean in sds, of the logarithm of an sd.
    """

    as_of: str
    rows: int
    new: int
    revised: int
    method: str
    fits: int
    seconds: float
    cpu_seconds: float
    mean_error: float
    log_sd_error: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, or 1 after a missed bar."""
    options = _options(arguments)
    with tempfile.TemporaryDirectory(prefix="vintages-") as scratch:
        methods = {name: METHODS[name](Path(scratch) / str(place)) for place, name in enumerate(options.only)}
        rows = list(_measured(methods, QUICK if options.quick else None, print))
        missing = [
            f"{name}: {one}"
            for name, pulls in methods.items()
            if isinstance(pulls, Pulls)
            for one in _unnamed(pulls, rows)
        ]
    _write(options.out, rows)
    lines = _summary(rows, missing)
    print("\n".join(lines))
    if options.out == HERE / "results.csv":
        write_between(HERE / "README.md", BEGIN, END, "\n".join([*lines, "", f"Machine: {machine()}."]))
    return 0 if not missing and _good(rows) else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.vintages.run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"the first {QUICK} versions")
    parser.add_argument(
        "--only", nargs="+", choices=tuple(METHODS), default=[PULLS, REFITS, COMPILED], metavar="METHOD"
    )
    parser.add_argument("--out", type=Path, help="another place for results.csv")
    options = parser.parse_args(arguments)
    if options.out is None:
        whole = not options.quick and {PULLS, REFITS, COMPILED} <= set(options.only)
        options.out = HERE / "results.csv" if whole else HERE.parents[1] / ".benchmarks" / "vintages.csv"
    return options


def _measured(methods: Sequence[Method], most: int | None, notify: Callable[[str], None]) -> Iterator[Row]:
    """Yield a row for each version and method; methods take turns."""
    for turn, version in enumerate(islice(versions(), most)):
        reference = exact(version.rows)
        for name, method in in_turns(list(methods.items()), turn):
            fits, taken = stopwatch(lambda method=method, version=version: method.follow(version))
            errors = _errors(method.found(), reference)
            notify(f"{version.as_of} {name}: {fits} fits, {taken.seconds:.2f} s, {errors[0]:.3f} sds")
            yield Row(
                version.as_of, len(version.rows), version.new, len(version.revised),
                name, fits, taken.seconds, taken.cpu_seconds, *errors,
            )  # fmt: skip


def _errors(found: Found, reference: Reference) -> tuple[float, float]:
    """Return the largest errors of a mean and of the logarithm of an sd.

    A method's sds are those of its plain draws.
    """
    flat = found.draws.reshape(-1, found.draws.shape[-1])
    means = np.abs(found.mean - reference.mean) / reference.sd
    return float(means.max()), float(np.abs(np.log(flat.std(axis=0) / reference.sd)).max())


def _unnamed(pulls: Pulls, rows: Sequence[Row]) -> list[str]:
    """Return the versions with a revised row that no record names, or a record that names another."""
    seen = {row.as_of for row in rows}
    expected = [(one.as_of, one.revised) for one in versions() if one.as_of in seen and one.revised]
    named = pulls.named()
    if len(named) != len(expected):
        return [f"{len(expected)} versions with revised rows, {len(named)} corrections"]
    return [as_of for (as_of, keys), found in zip(expected, named, strict=True) if keys != found]


def _of(rows: Sequence[Row], method: str) -> list[Row]:
    return [row for row in rows if row.method == method]


def _cost(rows: Sequence[Row], method: str, what: str) -> float:
    """Return a total without the first version, whose compilation all methods pay."""
    return sum(getattr(row, what) for row in _of(rows, method)[1:])


def _good(rows: Sequence[Row]) -> bool:
    """Whether the last belief is right, and pulls take less than half of what refits take."""
    mine = [row for name in (PULLS, PULL_JOBS) for row in _of(rows, name)[-1:]]
    right = all(max(row.mean_error, row.log_sd_error) <= MOST_ERROR for row in mine)
    return right and all(_share(rows, *pair) < MOST_COST for pair in _pairs(rows))


def _pairs(rows: Sequence[Row]) -> list[tuple[str, str]]:
    """Return the pulls and refits that are to be compared."""
    pairs = ((PULL_JOBS, REFIT_JOBS), (PULLS, REFITS))
    return [pair for pair in pairs if all(_of(rows, method) for method in pair)]


def _share(rows: Sequence[Row], method: str, rival: str) -> float:
    """Return the CPU of a method as a share of a rival's."""
    cost = _cost(rows, rival, "cpu_seconds")
    return _cost(rows, method, "cpu_seconds") / cost if cost else float("nan")


def _summary(rows: Sequence[Row], missing: Sequence[str]) -> list[str]:
    """Return the table of methods as Markdown."""
    last = rows[-1]
    lines = [
        f"{len({row.as_of for row in rows})} versions, {last.rows} rows in the last, "
        f"{sum(row.revised for row in _of(rows, rows[0].method))} revised rows.",
        "",
        "| method | fits | seconds | CPU s | median CPU s | last means, sds off | last log sds off |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for method in dict.fromkeys(row.method for row in rows):
        mine = _of(rows, method)
        seconds, cpu = (_cost(rows, method, what) for what in ("seconds", "cpu_seconds"))
        lines.append(
            f"| {method} | {sum(row.fits for row in mine)} | {seconds:.1f} | {cpu:.1f} | "
            f"{median(row.cpu_seconds for row in mine):.2f} | {mine[-1].mean_error:.3f} "
            f"| {mine[-1].log_sd_error:.3f} |"
        )
    lines.append("")
    for method, rival in _pairs(rows):
        lines.append(f"- CPU of `{method}` over `{rival}`: {_share(rows, method, rival):.2f}.")
    named = "- Every revised row is named in the record of its correction."
    lines.append(named if not missing else f"- Revised rows that no record names: {'; '.join(missing)}.")
    return lines


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [one.name for one in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(_rounded(asdict(row)) for row in rows)


def _rounded(values: Mapping[str, object]) -> dict[str, object]:
    return {key: f"{value:.4g}" if isinstance(value, float) else value for key, value in values.items()}


if __name__ == "__main__":
    raise SystemExit(main())
