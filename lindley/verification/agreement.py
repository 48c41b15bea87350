"""Test whether two sets of draws come from one posterior, given their Monte Carlo errors."""

from __future__ import annotations

import numpy as np
import xarray as xr
from arviz_stats.base import array_stats
from scipy import stats

from lindley.ledger.netcdf import weighted

#: Probability that two fits of one posterior are reported as different, over all comparisons of a link.
LEVEL = 1e-4


def disagreements(one: xr.DataTree, two: xr.DataTree) -> list[str]:
    """Return in which coordinates two traces differ by more than their Monte Carlo errors allow.

    Means and standard deviations of every coordinate are compared, of the plain draws and of the weighted
    ones: of weights that calibrate the draws, the error is at most that of plain draws. A difference is
    one beyond the normal quantile of `LEVEL`, Bonferroni over all comparisons. A standard deviation's
    error is that of the mean of squares, by the delta method on its logarithm.

    Parameters
    ----------
    one, two
        Traces with the group ``coordinates``: ``u`` [chain, draw, coordinate] and ``weight`` [chain, draw].

    Returns
    -------
    list of str
        One sentence per difference; empty where there is none.
    """
    first, second = _Moments(one), _Moments(two)
    if first.mean.shape != second.mean.shape:
        return [f"{first.mean.shape[-1]} coordinates recorded, {second.mean.shape[-1]} when fitted again"]
    found = []
    size = first.mean.size + first.log_sd.size
    most = float(stats.norm.isf(LEVEL / (2 * size)))
    for what, a, b, errors in (
        ("mean", first.mean, second.mean, (first.mean_error, second.mean_error)),
        ("log sd", first.log_sd, second.log_sd, (first.log_sd_error, second.log_sd_error)),
    ):
        error = np.sqrt(errors[0] ** 2 + errors[1] ** 2)
        distance = np.abs(a - b) / np.where(error > 0, error, np.finfo(float).tiny)
        # Values that are not finite differ as well.
        for kind, coordinate in np.argwhere(~(distance <= most) & ~((a == b) & np.isfinite(a))):
            found.append(
                f"{what} of coordinate {coordinate + 1} of the {('plain', 'weighted')[kind]} draws: "
                f"{a[kind, coordinate]:.6g} recorded, {b[kind, coordinate]:.6g} when fitted again, "
                f"{distance[kind, coordinate]:.1f} standard errors apart, {most:.1f} allowed"
            )
    return found


class _Moments:
    """Means and log sds [plain or weighted, coordinate], and the errors [coordinate] of the plain ones."""

    def __init__(self, tree: xr.DataTree) -> None:
        u, weight = weighted(tree)
        flat = u.reshape(-1, u.shape[-1])
        equal = np.full(len(flat), 1 / len(flat))
        self.mean = np.stack([equal @ flat, weight @ flat])
        squares = (flat - self.mean[0]) ** 2
        variance = np.stack([equal @ squares, weight @ (flat - self.mean[1]) ** 2])
        with np.errstate(divide="ignore", invalid="ignore"):
            self.log_sd = np.log(variance) / 2
            self.mean_error = np.sqrt(variance[0] / _ess(u))
            spread = squares.var(axis=0) / _ess((u - self.mean[0]) ** 2)
            self.log_sd_error = np.sqrt(spread) / (2 * variance[0])


def _ess(values: np.ndarray) -> np.ndarray:
    """Return the effective sample size of the mean [coordinate] of values [chain, draw, coordinate]."""
    moved = np.moveaxis(values, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = array_stats.ess(moved, chain_axis=1, draw_axis=2, method="mean")
    return np.atleast_1d(found)
