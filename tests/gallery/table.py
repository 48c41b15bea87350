"""Write the page "what works" from the gallery's results."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.gallery.run import USUAL, cases, results

PAGE = Path(__file__).parents[2] / "docs" / "what-works.md"

HEAD = """# What works

Models as PyMC users write them, each updated with three batches, against one fit of all rows by `pm.sample`.
`make bench-gallery` fits them (`tests/gallery/models/` has the code) and writes this page.

A model is **right** if the mean of every carried parameter is within 0.2 sds of PyMC's pooled fit and its sd
within a tenth (median and 90% interval, where an sd has a Monte Carlo error above 5%); **flagged** if Lindley
states a reason why it need not be (rows of batches that do not add up, batches that the gate quarantined);
**refused** by name before sampling; and **off** if it is none of these.
Seconds are of the updates one by one, with caches of compiled code that are empty before the first, and of
`pm.sample` ({sampling}) right after each,
compilation included, on the rows that the update fitted: within `refit_rows` these are all rows so far. Other
work shared the machine: compare the two of one row only.

| model | what it is | outcome | rows add up | worst mean, sds | sd ratios | updates, s | `pm.sample`, s |
| --- | --- | --- | --- | --- | --- | --- | --- |
"""


def page() -> str:
    """Return the page: a row per model; those without a result yet say so."""
    done = {row["model"]: row for row in results()}
    lines = []
    for case in cases():
        row, name = done.get(case.name), case.name.replace("_", " ")
        if row is None:
            lines.append(f"| {name} | {case.what} | not run yet | | | | | |")
            continue
        ratios = f"{row['sd_low']} to {row['sd_high']}" if row["sd_low"] else ""
        cells = (
            name, case.what, f"**{row['outcome']}**", row["adds_up"], row["worst_mean"], ratios,
            row["update_seconds"], _sampled(row),
        )  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    notes = [f"- {name.replace('_', ' ')}: {row['notes']}" for name, row in done.items() if row["notes"]]
    sampling = ", ".join(f"{name} {value:,}" for name, value in USUAL.items())
    text = HEAD.format(sampling=sampling) + "\n".join(lines) + "\n" + _longer(done)
    return text + ("\nWhat was said of them:\n\n" + "\n".join(notes) + "\n" if notes else "")


def _sampled(row: dict[str, str]) -> str:
    """Return the seconds of `pm.sample`; one number is of an earlier run, which had the last batch only."""
    seconds = row["sample_seconds"]
    return seconds if " " in seconds or not seconds else f"{seconds} (last batch only)"


def _longer(done: dict[str, dict[str, str]]) -> str:
    """Return which updates beyond the first took longer than `pm.sample` on the same rows."""
    count, found = 0, []
    for name, row in done.items():
        ours, theirs = (
            [float(s) for s in row[kind].split()] for kind in ("update_seconds", "sample_seconds")
        )
        if len(theirs) != len(ours):
            continue
        for number, (update, sample) in enumerate(zip(ours[1:], theirs[1:], strict=True), start=2):
            count += 1
            if update > sample:
                found.append(f"{name.replace('_', ' ')} {number} ({update / sample:.1f} times)")
    text = f"; longer are {', '.join(found)}" if found else ""
    return (
        f"\nBeyond a model's first update, {count - len(found)} of {count} updates took no longer than "
        f"`pm.sample`{text}.\n"
    )


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
