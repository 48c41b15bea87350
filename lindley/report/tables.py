"""Tables of parameters and of audits, as plain rows for a terminal, a page or a Prefect artifact."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
from lindley.report.text import one_line

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
