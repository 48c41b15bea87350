"""Derive reference posteriors from draws: ``python -m benchmarks.fidelity.references FOLDER``.

The repository holds the moments, quantiles and correlations of the reference posteriors, not their draws.
This command computes them again from a folder with a ``draws.parquet`` in each case, and compares them with
those that the benchmark reads.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from benchmarks.fidelity.cases import CASES, Reference, load_reference

#: Largest difference that independent draws explain, in Monte Carlo standard errors; about 500 are compared.
MOST = 4.5


def derive(draws: pd.DataFrame, names: Sequence[str]) -> Reference:
    """Return the reference posterior of draws from it.

    Parameters
    ----------
    draws
        One column per parameter; others are not read.
    names
        The parameters, in the order of the reference.
    """
    values = draws[list(names)].to_numpy()
    q05, q95 = np.quantile(values, (0.05, 0.95), axis=0)
    return Reference(
        names=tuple(names),
        mean=values.mean(axis=0),
        sd=values.std(axis=0, ddof=1),
        q05=q05,
        q95=q95,
        correlation=np.atleast_2d(np.corrcoef(values.T)),
    )


def differences(stored: Reference, derived: Reference, draws: pd.DataFrame) -> dict[str, float]:
    """Return the largest difference of each kind, in Monte Carlo standard errors of independent draws.

    The error of an sd takes the kurtosis of the draws into account, that of a quantile the density there, by
    the spacing of neighbouring quantiles.
    """
    values = draws[list(stored.names)].to_numpy()
    root = np.sqrt(len(values))
    kurtosis = stats.kurtosis(values, axis=0, fisher=False)
    errors = {
        "mean": (derived.mean - stored.mean) / (derived.sd / root),
        "sd": (derived.sd - stored.sd) / (derived.sd * np.sqrt((kurtosis - 1) / 4) / root),
    }
    for name, at in (("q05", 0.05), ("q95", 0.95)):
        low, high = np.quantile(values, (at - 0.01, at + 0.01), axis=0)
        error = np.sqrt(at * (1 - at)) / root * (high - low) / 0.02
        errors[name] = (getattr(derived, name) - getattr(stored, name)) / error
    off = ~np.eye(len(stored.names), dtype=bool)
    errors["correlation"] = _correlation_errors(values, stored.correlation, derived.correlation)[off]
    return {name: float(np.abs(error).max(initial=0.0)) for name, error in errors.items()}


def _correlation_errors(values: np.ndarray, stored: np.ndarray, derived: np.ndarray) -> np.ndarray:
    """Return differences of correlations in standard errors, by the delta method [parameter, parameter]."""
    z = (values - values.mean(axis=0)) / values.std(axis=0)
    z2 = z**2
    # Influence of a draw on r: z_i z_j - r (z_i^2 + z_j^2) / 2; its variance needs three products of moments.
    fourth = z2.T @ z2 / len(z)
    own = np.diag(fourth)
    third = (z**3).T @ z / len(z)
    variance = (
        fourth - derived * (third + third.T) + derived**2 / 4 * (own[:, None] + own[None, :] + 2 * fourth)
    )
    return (derived - stored) / np.sqrt(np.maximum(variance, 1e-12) / len(z))


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare all cases; returns 0, 1 if a reference disagrees with its draws, or 2 without draws."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="a subfolder with draws.parquet for each case")
    parser.add_argument("--cases", type=Path, default=CASES, help="folder of the cases to compare with")
    options = parser.parse_args(arguments)
    files = sorted(options.folder.glob("*/draws.parquet"))
    if not files:
        print(f"{options.folder.name} holds no */draws.parquet", file=sys.stderr)
        return 2
    worst = 0.0
    for file in files:
        draws = pd.read_parquet(file)
        stored = load_reference(options.cases / file.parent.name)
        found = differences(stored, derive(draws, stored.names), draws)
        worst = max(worst, *found.values())
        shown = ", ".join(f"{name} {value:.2f}" for name, value in found.items())
        print(f"{file.parent.name}: {len(draws):,} draws; largest differences in standard errors: {shown}")
    print(f"largest of all: {worst:.2f}, allowed {MOST}")
    return int(worst > MOST)


if __name__ == "__main__":
    sys.exit(main())
