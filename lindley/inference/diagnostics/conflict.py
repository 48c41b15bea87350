"""Conflict of a batch with the belief before it."""

from __future__ import annotations

import numpy as np
from scipy import stats


def conflict(z: np.ndarray, weights: np.ndarray, ess: float) -> float:
    """Return the p-value of the batch's pull against the prior it met.

    In whitened coordinates the prior is Normal(0, I). For a normal likelihood the posterior mean m with
    posterior covariance C is, under the prior predictive, Normal(0, I - C), so m' (I - C)^-1 m is
    chi-squared (Evans & Moshonov 2006, Bayesian Analysis 1:893, with the sufficient statistic's normal
    approximation). Where I - C is smaller than the draws can distinguish from zero, as in a long chain, twice
    that limit replaces it: the p-value is then too large and never too small. Such directions are a test of
    their own beside the others, by Bonferroni, so that many of them do not hide one pull. A posterior wider
    than the prior (a mixture that abandoned the prior) counts with variance 1.

    Parameters
    ----------
    z, weights
        Whitened posterior draws, array [draw, coordinate], and their weights [draw].
    ess
        Effective sample size of the weighted draws.
    """
    mean = weights @ z
    covariance = np.atleast_2d((weights * (z - mean).T) @ (z - mean))
    values, vectors = np.linalg.eigh(covariance)
    limit = min(5 * np.sqrt(2 / ess), 0.5)
    pull, variance = (vectors.T @ mean) ** 2, 1 - values
    resolved = variance > limit
    variance = np.where(resolved, variance, np.where(variance < -limit, 1.0, 2 * limit))
    parts = [part for part in (resolved, ~resolved) if part.any()]
    found = [stats.chi2.sf((pull / variance)[part].sum(), int(part.sum())) for part in parts]
    return float(min(1.0, len(parts) * min(found)))
