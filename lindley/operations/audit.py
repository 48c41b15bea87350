"""Comparing a chain's head with the pooled refit of all its batches.

Sequential updating is an approximation; the pooled refit is the answer that it approximates.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd


def audit_table(sequential: pd.DataFrame, pooled: pd.DataFrame) -> pd.DataFrame:
    """Compare a chain's head with the pooled refit.

    Parameters
    ----------
    sequential, pooled
        Summaries (see `lindley.inference.trace.summary`).

    Returns
    -------
    pandas.DataFrame
        Index ``parameter``, those of both; columns sequential_mean, sequential_sd, pooled_mean,
        pooled_sd, error (difference of the means in pooled sds), sd_ratio (sequential over pooled), and
        error_q05, error_q95 (differences of the ends of the 90% interval in pooled sds).
    """
    sequential = sequential[~sequential.index.duplicated()]
    pooled = pooled[~pooled.index.duplicated()]
    shared = [name for name in pooled.index if name in sequential.index]
    one, two = sequential.loc[shared], pooled.loc[shared]
    sd = two["sd"].where(two["sd"] > 0)
    return pd.DataFrame(
        {
            "sequential_mean": one["mean"],
            "sequential_sd": one["sd"],
            "pooled_mean": two["mean"],
            "pooled_sd": two["sd"],
            "error": (one["mean"] - two["mean"]) / sd,
            "sd_ratio": one["sd"] / sd,
            "error_q05": (one["q05"] - two["q05"]) / sd,
            "error_q95": (one["q95"] - two["q95"]) / sd,
        }
    ).rename_axis("parameter")


def audit_error(table: pd.DataFrame, sequential: pd.DataFrame, state: Collection[str]) -> float:
    """Return the error that a pooled refit measures: the largest one of a carried variable or of a state.

    Parameters
    ----------
    table
        See `audit_table`.
    sequential
        Summary of the chain's head, which states what is carried.
    state
        Names of the quantities whose posteriors are carried as state.

    Returns
    -------
    float
        Largest difference of a mean, in sds of the refit, or of the logarithm of an sd; 0 without any.
    """
    flags = sequential[~sequential.index.duplicated()]["carried"].astype(bool)
    chosen = [name for name in table.index if flags[name] or str(name).partition("[")[0] in state]
    found = table.loc[chosen]
    ratios = found["sd_ratio"].where(found["sd_ratio"] > 0)
    errors = np.concatenate([found["error"].abs(), np.log(ratios).abs()])
    return float(errors[np.isfinite(errors)].max(initial=0.0))


def audit_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Return the worst of an audit as scalar results."""
    metrics = {
        "audit_error": table["error"].abs().max(),
        "audit_sd_ratio_min": table["sd_ratio"].min(),
        "audit_sd_ratio_max": table["sd_ratio"].max(),
    }
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}
