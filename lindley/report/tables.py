"""Tables of parameters and of audits, as plain rows for a terminal, a page or a Prefect artifact."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lindley.report.numbers import (
    format_interval,
    format_number,
    format_pair,
    format_r_hat,
    format_ratio,
    format_shift,
)
from lindley.report.text import one_line

if TYPE_CHECKING:
    import pandas as pd


def audit_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return one row of text per parameter of an audit, those that are furthest off first.

    Parameters
    ----------
    table
        What `lindley.operations.rebase.audit_table` returned.
    """
    return [
        {
            "parameter": one_line(str(name), 60),
            "sequential": format_pair(row["sequential_mean"], row["sequential_sd"]),
            "pooled": format_pair(row["pooled_mean"], row["pooled_sd"]),
            "error": format_shift(row["error"]),
            "sd ratio": format_ratio(row["sd_ratio"]),
        }
        for name, row in table.sort_values(
            "error", key=abs, ascending=False, na_position="last", kind="stable"
        ).iterrows()
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
    return [_parameter_row(label, values) for label, values in summary_values(summary)]


def _parameter_row(label: str, values: Mapping[str, float]) -> dict[str, str]:
    return {
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


#: The columns of a summary that the report reads.
SUMMARY_COLUMNS = (
    "mean", "sd", "q05", "q50", "q95", "prior_mean", "prior_sd", "sd_ratio", "shift",
    "r_hat", "ess_bulk", "ess_tail",
)  # fmt: skip


def summary_values(summary: pd.DataFrame) -> list[tuple[str, dict[str, float]]]:
    """Return ``(label, values)`` per parameter; what is missing in the summary is NaN."""
    columns = {name: summary[name] if name in summary.columns else None for name in SUMMARY_COLUMNS}
    numbers = {
        name: [math.nan] * len(summary) if column is None else column.astype(float).tolist()
        for name, column in columns.items()
    }
    return [
        (str(label), {name: numbers[name][i] for name in SUMMARY_COLUMNS})
        for i, label in enumerate(summary.index)
    ]


def prior_text(values: Mapping[str, float]) -> str:
    """Return ``mean ± sd`` of the prior; ``improper`` when it has neither."""
    if math.isnan(values["prior_mean"]) and math.isnan(values["prior_sd"]):
        return "improper"
    return format_pair(values["prior_mean"], values["prior_sd"])


def parameter_values(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the summary as JSON-able rows at full precision; None where a number is not finite."""
    return [
        {"parameter": label, **{k: v if math.isfinite(v) else None for k, v in values.items()}}
        for label, values in summary_values(summary)
    ]


def _whole(value: float) -> str:
    return f"{value:.0f}" if math.isfinite(value) else format_number(value)
