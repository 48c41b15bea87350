"""Convergence of draws: R-hat, effective sample sizes, Monte Carlo errors of sds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from arviz_stats.base import array_stats


@dataclass(frozen=True)
class Convergence:
    """Convergence of draws, per coordinate.

    Parameters
    ----------
    r_hat, ess_bulk, ess_tail
        Arrays [coordinate].
    """

    r_hat: np.ndarray
    ess_bulk: np.ndarray
    ess_tail: np.ndarray

    @property
    def ess_min(self) -> float:
        """Smallest effective sample size of any coordinate, bulk or tail; 1 where it cannot be estimated."""
        ess = float(min(self.ess_bulk.min(), self.ess_tail.min()))
        return max(ess, 1.0) if np.isfinite(ess) else 1.0


def convergence(draws: np.ndarray) -> Convergence:
    """Compute R-hat and effective sample sizes of draws [chain, draw, coordinate].

    Both are NaN where a coordinate does not move or is not finite; the gate refuses NaN.
    """
    ary = np.moveaxis(draws, -1, 0)
    with np.errstate(all="ignore"):
        spread = draws.std(axis=(0, 1))
        usable = (spread > 0) & np.isfinite(draws).all(axis=(0, 1)) & np.isfinite(spread)
        found = np.full((3, draws.shape[-1]), np.nan)
        if usable.any():
            ary = ary[usable]
            found[0, usable] = array_stats.rhat(ary)
            found[1, usable] = array_stats.ess(ary, method="bulk")
            found[2, usable] = array_stats.ess(ary, method="tail", prob=(0.05, 0.95))
    return Convergence(r_hat=found[0], ess_bulk=found[1], ess_tail=found[2])


def sd_errors(draws: np.ndarray) -> np.ndarray:
    """Return each sd's Monte Carlo standard error as a fraction of it [value]; draws [chain, draw, value]."""
    found = np.zeros(draws.shape[-1])
    with np.errstate(all="ignore"):
        sd = np.where(np.isfinite(draws).all(axis=(0, 1)), draws, 0.0).std(axis=(0, 1))
    moving = np.isfinite(sd) & (sd > 0)
    if moving.any():
        ary = np.moveaxis(draws[..., moving] / sd[moving], -1, 0)
        found[moving] = np.atleast_1d(array_stats.mcse(ary, method="sd"))
    return found
