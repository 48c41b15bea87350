"""What matters of a new link, in sentences: movement, conflict, error along the chain, time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lindley.report.numbers import format_number, format_pair, format_shift
from lindley.report.tables import prior_text, summary_values
from lindley.report.text import counted, one_line

if TYPE_CHECKING:
    import pandas as pd

#: Files that a sentence names; the others are counted.
_MOST_NAMED = 5
#: What is measured of each link's error, and how it is called.
_ERRORS = {"drift": "drift", "stated_error": "stated error"}


def most_moved(values: Sequence[tuple[str, dict[str, float]]]) -> tuple[str, dict[str, float]] | None:
    """Return the parameter that moved most in prior sds, with its values; None where none is measured."""
    moved = [item for item in values if math.isfinite(item[1]["shift"])]
    return max(moved, key=lambda item: abs(item[1]["shift"]), default=None)


def highlights(
    metrics: Mapping[str, float], summary: pd.DataFrame, seconds: float | None = None
) -> tuple[str, ...]:
    """Return what a user wants to know of an update, beside its gate: one sentence each.

    Parameters
    ----------
    metrics
        Scalar results by name; what is not among them is left out.
    summary
        One row per parameter; see `lindley.report.tables.parameter_rows`.
    seconds
        What the update took, which is the estimate for the next one.
    """
    found = []
    moved = most_moved(summary_values(summary))
    if moved is not None:
        label, values = moved
        found.append(
            f"moved most: {one_line(label, 40)} by {format_shift(values['shift'])}, "
            f"{prior_text(values)} to {format_pair(values['mean'], values['sd'])}"
        )
    if "conflict_p" in metrics:
        found.append(f"conflict with the belief before: p = {format_number(metrics['conflict_p'], digits=2)}")
    errors = [f"{words} {metrics[name]:.3f} sds" for name, words in _ERRORS.items() if name in metrics]
    if errors:
        found.append(f"error of earlier matches: {', '.join(errors)}")
    if seconds is not None:
        found.append(f"took {_duration(seconds)}; expect about as much for the next one")
    return tuple(found)


def not_counted(files: Sequence[str]) -> str:
    """Return a sentence on the quarantined batches that a chain does not count, by their files."""
    named = ", ".join(one_line(name, 60) for name in files[:_MOST_NAMED])
    more = f" and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    verb = "is" if len(files) == 1 else "are"
    noun = "batch" if len(files) == 1 else "batches"
    return f"{len(files):,} quarantined {noun} {verb} not counted: {named}{more}"


def marked(status: str, warnings: int) -> str:
    """Return the status of a link as a word for lists, with the number of its warnings."""
    return f"{status}, {counted(warnings, 'warning')}" if warnings else status


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
