"""Tables of parameters and of audits, as plain rows for a terminal, a page or a Prefect artifact.

And what matters of a new link, in sentences: movement, conflict, error along the chain, time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lindley.report.numbers import (
    finite_or_none,
    format_interval,
    format_number,
    format_pair,
    format_r_hat,
    format_ratio,
    format_shift,
)
from lindley.report.text import counted, one_line

if TYPE_CHECKING:
    import pandas as pd


def json_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return a table as JSON-able rows, its index first; None where a number is not finite."""
    return [
        {str(name): finite_or_none(value) for name, value in row.items()}
        for row in table.reset_index().to_dict(orient="records")
    ]


def audit_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return one row of text per parameter of an audit, largest error first.

    Parameters
    ----------
    table
        The result of `lindley.operations.audit.audit_table`.
    """
    ordered = table.sort_values("error", key=abs, ascending=False, na_position="last", kind="stable")
    return [
        {
            "parameter": one_line(str(name), 60),
            "sequential": format_pair(row["sequential_mean"], row["sequential_sd"]),
            "pooled": format_pair(row["pooled_mean"], row["pooled_sd"]),
            "error": format_shift(row["error"]),
            "sd ratio": format_ratio(row["sd_ratio"]),
        }
        for name, row in ordered.iterrows()
    ]


def parameter_rows(summary: pd.DataFrame) -> list[dict[str, str]]:
    """Return one row of text per parameter, in the order of the summary.

    Parameters
    ----------
    summary
        Indexed by parameter label, with the columns ``mean``, ``sd``, ``q05``, ``q95``,
        ``prior_mean``, ``prior_sd``, ``sd_ratio``, ``shift``, ``r_hat``, ``ess_bulk`` and
        ``ess_tail``, on the natural scale of each parameter. A missing column reads as NaN.

    Returns
    -------
    list of dict
        The columns ``parameter``, ``prior``, ``posterior``, ``90% interval``, ``shift``,
        ``sd ratio``, ``R-hat``, ``ESS bulk``, ``ESS tail``. The text is not escaped for markup.
    """
    return [
        {
            "parameter": one_line(label),
            "prior": prior_text(values),
            "posterior": format_pair(values["mean"], values["sd"]),
            "90% interval": format_interval(values["q05"], values["q95"], values["sd"]),
            "shift": format_shift(values["shift"]),
            "sd ratio": format_ratio(values["sd_ratio"]),
            "R-hat": format_r_hat(values["r_hat"]),
            "ESS bulk": _whole(values["ess_bulk"]),
            "ESS tail": _whole(values["ess_tail"]),
        }
        for label, values in summary_values(summary)
    ]


#: The columns of a summary in reports.
SUMMARY_COLUMNS = (
    "mean", "sd", "q05", "q50", "q95", "prior_mean", "prior_sd", "sd_ratio", "shift",
    "r_hat", "ess_bulk", "ess_tail",
)  # fmt: skip


def _complete(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the columns that the report reads; what is missing in the summary is NaN."""
    return summary.reindex(columns=SUMMARY_COLUMNS).astype(float).rename_axis("parameter")


def summary_values(summary: pd.DataFrame) -> list[tuple[str, dict[str, float]]]:
    """Return ``(label, values)`` per parameter; what is missing in the summary is NaN."""
    rows = _complete(summary).to_dict(orient="records")
    return [
        (str(label), {str(name): value for name, value in row.items()})
        for label, row in zip(summary.index, rows, strict=True)
    ]


def prior_text(values: Mapping[str, float]) -> str:
    """Return ``mean ± sd`` of the prior; ``improper`` where its sd is infinite, ``n/a`` where not drawn."""
    if math.isinf(values["prior_sd"]):
        return "improper"
    return format_pair(values["prior_mean"], values["prior_sd"])


def parameter_values(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the summary as JSON-able rows at full precision; None where a number is not finite."""
    return json_rows(_complete(summary))


def _whole(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else format_number(value)


#: Files that a sentence names; the others are counted.
_MOST_NAMED = 5
#: Share of an update from which on the time of compilation is stated.
_COMPILED = 0.2
#: What is measured of each link's error, and how it is called.
_ERRORS = {"drift": "drift", "stated_error": "stated error"}


def most_moved(values: Sequence[tuple[str, dict[str, float]]]) -> tuple[str, dict[str, float]] | None:
    """Return the parameter that moved most in prior sds, with its values; None where none is measured."""
    moved = [item for item in values if math.isfinite(item[1]["shift"])]
    return max(moved, key=lambda item: abs(item[1]["shift"]), default=None)


def highlights(
    metrics: Mapping[str, float],
    summary: pd.DataFrame,
    seconds: float | None = None,
    compiling: float = 0.0,
) -> tuple[str, ...]:
    """Return what a user wants to know of an update, beside its gate: one sentence each.

    Parameters
    ----------
    metrics
        Scalar results by name; what is not among them is left out.
    summary
        One row per parameter; see `lindley.report.tables.parameter_rows`.
    seconds
        What the update took.
    compiling
        The part of it that compiled the model: the next update takes about the rest.
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
        found.append(f"error: {', '.join(errors)}")
    if seconds is not None:
        found.append(_took(seconds, compiling))
    return tuple(found)


def not_counted(files: Sequence[str]) -> str:
    """Return a sentence on the quarantined batches that a chain does not count, by their files."""
    named = ", ".join(one_line(name, 60) for name in files[:_MOST_NAMED])
    more = f" and {len(files) - _MOST_NAMED} more" if len(files) > _MOST_NAMED else ""
    verb = "is" if len(files) == 1 else "are"
    return (
        f"{counted(len(files), 'quarantined batch', 'quarantined batches')} {verb} not counted: {named}{more}"
    )


def marked(status: str, warnings: int) -> str:
    """Return the status of a link as a word for lists, with the number of its warnings."""
    return f"{status}, {counted(warnings, 'warning')}" if warnings else status


def _took(seconds: float, compiling: float) -> str:
    if compiling < max(_COMPILED * seconds, 1.0):
        return f"took {_duration(seconds)}; expect about as much for the next one"
    return (
        f"took {_duration(seconds)}, {_duration(compiling)} of it to compile the model; expect about "
        f"{_duration(max(seconds - compiling, 0.0))} for the next one, unless that compiles again"
    )


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
