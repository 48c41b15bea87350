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

    Both are NaN where a coordinate does not move or is not finite; the gate refuses NaN. R-hat of a single
    chain compares its halves.
    """
    found, moving = np.full((3, draws.shape[-1]), np.nan), _moving(draws)[1]
    if moving.any():
        ary = np.moveaxis(draws[..., moving], -1, 0)
        with np.errstate(all="ignore"):
            found[0, moving] = array_stats.rhat(_in_two(ary) if len(draws) == 1 else ary)
            found[1, moving] = array_stats.ess(ary, method="bulk")
            found[2, moving] = array_stats.ess(ary, method="tail", prob=(0.05, 0.95))
    return Convergence(r_hat=found[0], ess_bulk=found[1], ess_tail=found[2])


def _in_two(draws: np.ndarray) -> np.ndarray:
    """Return the halves of a single chain as two chains; draws [value, 1, draw]."""
    half = draws.shape[-1] // 2
    return draws[..., : 2 * half].reshape(len(draws), 2, half)


def sd_errors(draws: np.ndarray) -> np.ndarray:
    """Return each sd's Monte Carlo standard error as a fraction of it [value]; draws [chain, draw, value]."""
    found, (sd, moving) = np.zeros(draws.shape[-1]), _moving(draws)
    if moving.any():
        ary = np.moveaxis(draws[..., moving] / sd[moving], -1, 0)
        found[moving] = np.atleast_1d(array_stats.mcse(ary, method="sd"))
    return found


def _moving(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sds [value] of draws [chain, draw, value], and whether each is finite and not 0."""
    with np.errstate(all="ignore"):  # the sd of what is not finite is not finite
        sd = draws.std(axis=(0, 1))
        return sd, np.isfinite(sd) & (sd > 0)
