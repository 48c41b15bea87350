"""Write the generated part of ``docs/performance.md``, between two marks."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import isnan
from pathlib import Path
from statistics import median

import psutil

from benchmarks.between import write_between
from benchmarks.speed.bars import all_bars, counts
from benchmarks.speed.measure import LINDLEY, QUOTED, SCENARIOS, UNKNOWN, Row

BEGIN, END = "<!-- written by make bench-speed: begin -->", "<!-- written by make bench-speed: end -->"
_PACKAGES = ("lindley", "pymc", "pytensor", "nutpie", "numba", "numpy", "mlflow", "prefect", "pymc-extras")


@dataclass(frozen=True)
class Ran:
    """How a scenario was run.

    Parameters
    ----------
    date
        End, in UTC.
    outcome
        ``finished``, or the reason why not.
    minutes
        Wall clock.
    command, machine, versions
        Conditions of the run.
    """

    date: str
    outcome: str
    minutes: float
    command: str
    machine: str
    versions: str

    @property
    def finished(self) -> bool:
        return self.outcome == "finished"


def machine() -> str:
    """Return processor, cores and memory of this machine."""
    memory = psutil.virtual_memory().total / 2**30
    return f"{_processor()}, {os.cpu_count()} cores, {memory:.0f} GiB of memory, {platform.system()}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> str:
    """Return the versions of commit, Python and packages."""
    found = [f"{name} {version(name)}" for name in _PACKAGES]
    return ", ".join([f"commit {_commit()}", f"Python {platform.python_version()}", *found])


def _commit() -> str:
    """Return the measured commit, marked if the files differ from it."""
    where = Path(__file__).parent
    git = ["git", "-C", str(where), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    done = subprocess.run(git, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def read_runs(path: Path) -> dict[str, Ran]:
    """Read how scenarios were run; nothing if there is no file."""
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    return {name: Ran(**values) for name, values in document.items()}


def write_runs(path: Path, runs: Mapping[str, Ran]) -> None:
    """Write how scenarios were run."""
    known = {name: asdict(runs[name]) for name in SCENARIOS if name in runs}
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def write_page(path: Path, rows: Sequence[Row], runs: Mapping[str, Ran]) -> None:
    """Write the text between the marks of a page; the rest stays.

    Raises
    ------
    ValueError
        If the page does not hold each mark once, in order.
    """
    write_between(path, BEGIN, END, body(rows, runs))


def body(rows: Sequence[Row], runs: Mapping[str, Ran]) -> str:
    """Return the generated part: bars, a table per scenario, and the conditions of the runs."""
    parts = ["### Bars", _bars(rows)]
    for name in SCENARIOS:
        if own := [row for row in rows if row.scenario == name]:
            parts += [f"### {name}", _note(runs.get(name)), _scenario(own)]
    parts += ["### Runs", _runs(runs)]
    return "\n\n".join(part for part in parts if part)


def _bars(rows: Sequence[Row]) -> str:
    lines = [(bar.text, bar.found or "-", bar.word) for bar in all_bars(rows)]
    return table(("bar", "measured", ""), lines)


def _note(ran: Ran | None) -> str:
    return (
        ""
        if ran is None or ran.finished
        else f"**Not finished: {ran.outcome}.** The table holds the rows so far."
    )


def _scenario(rows: Sequence[Row]) -> str:
    """Return the table of a scenario; links 2 and later of a stream are one line, by their medians."""
    grouped: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        grouped.setdefault((row.process, row.method, _links(row)), []).append(row)
    lines = []
    for (process, method, links), group in grouped.items():
        ours = grouped.get((process, LINDLEY, links), [])
        lines.append(
            (
                method,
                process,
                links or _span(group),
                _number(_middle(group, "seconds")),
                _number(_middle(group, "cpu_seconds")),
                _whole(_middle(group, "ess_min")),
                _number(1000 * _middle(group, "cpu_seconds") / _middle(group, "ess_min")),
                _ratio(group, ours),
                _quality(group),
            )
        )
    head = (
        *("method", "process", "links", "seconds", "CPU s", "smallest ESS"),
        *("CPU ms per effective draw", "seconds / Lindley's", "same posterior, gate"),
    )
    return table(head, lines)


def _links(row: Row) -> str:
    """Return the link of a row with a line of its own; empty for later links of a stream."""
    alone = row.scenario in ("first_hour", "growth", "sir_article") or row.link == 1
    return f"{row.link:,}" if alone else ""


def _span(group: Sequence[Row]) -> str:
    links = [row.link for row in group]
    return f"{min(links)} to {max(links)}"


def _middle(group: Sequence[Row], name: str) -> float:
    known = [value for row in group if not isnan(value := getattr(row, name))]
    return median(known) if known else float("nan")


def _ratio(group: Sequence[Row], ours: Sequence[Row]) -> str:
    """Return the ratio of seconds to Lindley's, the median over common links."""
    own = {row.link: row.seconds for row in ours}
    ratios = [row.seconds / own[row.link] for row in group if row.link in own]
    ratios = [ratio for ratio in ratios if not isnan(ratio)]
    return _number(median(ratios)) if ratios and group[0].method != LINDLEY else "-"


def _quality(group: Sequence[Row]) -> str:
    if group[0].process == QUOTED:
        return "quoted, not measured here"
    if all(row.gate == UNKNOWN for row in group):
        return "-"  # whole commands, of which only the time is measured
    good = sum(map(counts, group))
    return "yes" if good == len(group) else f"{good} of {len(group)}"


def _number(value: float) -> str:
    if isnan(value):
        return "-"
    return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"


def _whole(value: float) -> str:
    return "-" if isnan(value) else f"{value:,.0f}"


def _runs(runs: Mapping[str, Ran]) -> str:
    lines = [
        (name, runs[name].date, runs[name].outcome, f"{runs[name].minutes:.0f}", f"`{runs[name].command}`")
        for name in SCENARIOS
        if name in runs
    ]
    missing = [name for name in SCENARIOS if name not in runs]
    parts = [table(("scenario", "date (UTC)", "outcome", "minutes", "command"), lines)]
    for what in ("machine", "versions"):
        # One line if all scenarios agree.
        found: dict[str, list[str]] = {}
        for name in SCENARIOS:
            if name in runs:
                found.setdefault(getattr(runs[name], what), []).append(name)
        parts += [
            f"{what.capitalize()}{'' if len(found) == 1 else f' ({", ".join(names)})'}: {text}."
            for text, names in found.items()
        ]
    if missing:
        parts.append(f"Not run: {', '.join(missing)}.")
    return "\n\n".join(parts)


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines))
