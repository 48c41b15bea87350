"""The table of the benchmark's README, from results.csv: ``python -m benchmarks.panel.page``."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.between import write_between

README, RESULTS = (Path(__file__).parent / name for name in ("README.md", "results.csv"))
#: Lines of the README between which the tables are.
FIRST, LAST = "<!-- results -->", "<!-- end of results -->"
_CHAIN = {
    "update": "link", "members": "members", "s": "seconds", "CPU ms a member": "cpu_ms_per_member",
    "peak MB": "peak_mb", "MLflow calls": "calls", "MB written": "written_mb", "certified": "approximations",
    "NUTS": "nuts", "failed": "failed", "coverage": "coverage", "± s.e.": "coverage_se",
}  # fmt: skip
_ENGINE = {
    "method": "method", "update": "link", "members": "members", "CPU ms a member": "cpu_ms_per_member",
    "ESS": "ess", "match ESS": "match_ess", "ESS a CPU s": "ess_per_cpu_second",
    "match ESS a CPU s": "match_ess_per_cpu_second", "coverage": "coverage", "± s.e.": "coverage_se",
}  # fmt: skip


def write(readme: Path = README, results: Path = RESULTS) -> None:
    """Replace the tables of the README by those of results.csv."""
    with results.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    parts = [
        table([row for row in rows if row["scenario"] == scenario], columns)
        for scenario, columns in (("chain", _CHAIN), ("engine", _ENGINE))
    ]
    write_between(readme, FIRST, LAST, "\n\n".join(part for part in parts if part))


def table(rows: Sequence[dict[str, str]], columns: dict[str, str]) -> str:
    """Return rows as a Markdown table; empty without rows."""
    if not rows:
        return ""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[_plain(row[name]) for name in columns.values()] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(text: str) -> str:
    """Return a number with separators in place of an exponent; other text as it is."""
    try:
        value = float(text)
    except ValueError:
        return text
    return f"{value:,.0f}" if abs(value) >= 1000 else text


if __name__ == "__main__":
    write()
