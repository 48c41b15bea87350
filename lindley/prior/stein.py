"""Calibrated weights: draws reweighted so that identities that the exact posterior fulfils hold for them.

For a density pi with score g(u) = d log pi / du and any smooth function P that does not grow too fast,
Stein's identity says E[g . dP/du + d2P/du2] = 0. The means of such functions are known to be zero, so they
serve as control variates (Assaraf & Caffarel 1999, Phys. Rev. Lett. 83:4682; Mira, Solgi & Imparato 2013,
Statistics and Computing 23:653). With P the polynomials up to degree 3 the regression on them of a normal
posterior's first three moments is exact: the Monte Carlo error of the match vanishes, and near normality
most of it. A chain compounds this error.

The regression's intercept is a weighted mean whose weights do not depend on what is averaged. They are
computed once and used for every moment that is matched.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from math import comb

import numpy as np

#: Control variates per effective draw at most (beyond it the regression fits noise), and at all.
_MOST_VARIATES, _MOST = 0.1, 400
#: Effective share of the draws, 1/(n sum w^2), below which the weights are taken to fit noise.
_LEAST_SHARE = 0.5
#: Variance of the matched moments, relative to that of plain means, below which weights are worth it.
_WORTHWHILE = 0.9


@dataclass(frozen=True)
class CalibratedWeights:
    """Weights of draws, and their gain in precision.

    Parameters
    ----------
    weights
        Array [draw], summing to one; equal ones where calibration does not help. Single weights may be
        slightly negative.
    order
        Degree of the polynomials: 3, 2, 1, or 0 for equal weights.
    gain
        Variance of plain over that of calibrated means: the smallest over the moments that a joint normal
        is matched by. It is the factor by which their effective sample size grows; 1 for equal weights.
    basis
        Orthonormal basis [draw, column] of the variates and the constant.
    """

    weights: np.ndarray
    order: int
    gain: float = 1.0
    basis: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)), repr=False)

    def mean(self, values: np.ndarray) -> tuple[float, float]:
        """Return the calibrated mean of values [draw] and its standard error for independent draws."""
        left, leverage = values - values.mean(), np.zeros(len(values))
        if self.order:
            left = left - self.basis @ (self.basis.T @ left)
            leverage = (self.basis**2).sum(axis=1)
        # Each residual is what the others, without this draw, would leave of it.
        errors = self.weights * left / np.maximum(1 - leverage, 1e-3)
        return float(self.weights @ values), float(np.sqrt(errors @ errors))


def equal_weights(count: int) -> CalibratedWeights:
    """Return equal weights."""
    return CalibratedWeights(np.full(count, 1 / count), 0)


def calibrate(draws: np.ndarray, scores: np.ndarray, ess: float) -> CalibratedWeights:
    """Return the weights under which Stein's identities hold for the draws.

    Parameters
    ----------
    draws
        Array [draw, coordinate], chain after chain.
    scores
        Gradient of the log target at the draws, array [draw, coordinate].
    ess
        Effective sample size of the draws, which limits the number of variates.

    Returns
    -------
    CalibratedWeights
        With the highest degree that the draws allow, or equal weights where none helps.
    """
    count, size = draws.shape
    plain = equal_weights(count)
    if not np.isfinite(scores).all():
        return plain
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    scale = np.sqrt(np.diag(covariance))
    try:
        factor = np.linalg.cholesky(covariance / np.outer(scale, scale)) * scale[:, None]
    except np.linalg.LinAlgError:
        return plain
    x = np.linalg.solve(factor, (draws - draws.mean(axis=0)).T).T
    g = scores @ factor
    moments = _moments(x)
    for order in (3, 2, 1):
        monomials = comb(size + order, order) - 1  # of degree 1 to `order`
        if monomials > min(_MOST_VARIATES * min(ess, count), _MOST):
            continue
        found = _weighted(_variates(x, g, order), order)
        if found is None:
            continue
        gains = _gains(found.basis, moments)
        # First-degree polynomials calibrate means only, which helps on its own.
        worth = gains[:size] if order == 1 else gains
        if worth.min() > 1 / _WORTHWHILE:
            return replace(found, gain=max(1.0, float(gains.min())))
    return plain


def _moments(x: np.ndarray) -> np.ndarray:
    """Return the columns of x and all products of two of them, array [draw, moment]."""
    size, columns = x.shape[1], np.ascontiguousarray(x.T)
    # Written into place, column by column: selecting the factors' columns first would copy all of them twice.
    moments = np.empty((size + size * (size + 1) // 2, len(x)))
    moments[:size], begun = columns, size
    for i in range(size):
        np.multiply(columns[i:], columns[i], out=moments[begun : begun + size - i])
        begun += size - i
    return moments.T


def _variates(x: np.ndarray, g: np.ndarray, order: int) -> np.ndarray:
    """Return g . dP/dx + d2P/dx2 for all monomials P of degree 1 to `order`, array [draw, monomial]."""
    size = x.shape[1]
    columns = [*g.T]
    if order > 1:
        for i, j in combinations_with_replacement(range(size), 2):
            columns.append(g[:, i] * x[:, j] + g[:, j] * x[:, i] + 2.0 * (i == j))
    if order > 2:
        for i, j, k in combinations_with_replacement(range(size), 3):
            slope = g[:, i] * x[:, j] * x[:, k] + g[:, j] * x[:, i] * x[:, k] + g[:, k] * x[:, i] * x[:, j]
            curvature = 2.0 * ((i == j) * x[:, k] + (i == k) * x[:, j] + (j == k) * x[:, i])
            columns.append(slope + curvature)
    return np.column_stack(columns)


def _weighted(variates: np.ndarray, order: int) -> CalibratedWeights | None:
    """Return the weights that make the variates' means zero; None where they cannot be trusted."""
    count = len(variates)
    # The constant last: its part that the variates do not explain is the last column of the basis, and the
    # intercept of a least-squares fit is the mean under weights proportional to that part.
    design = np.column_stack([variates / np.sqrt((variates**2).mean(axis=0)), np.ones(count)])
    basis, triangle = np.linalg.qr(design)
    if np.abs(np.diag(triangle)).min() < 1e-8 * np.sqrt(count):
        return None
    rest = basis[:, -1]
    weights = rest / rest.sum()
    if not 1 / (count * (weights**2).sum()) >= _LEAST_SHARE:
        return None
    return CalibratedWeights(weights, order, basis=basis)


def _gains(basis: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the ratio of variance to variance left after regression, array [column of values].

    The basis is orthonormal and spans the constant: what it explains of a column's sum of squares is that of
    its products with the column.
    """
    count = len(values)
    squares = np.einsum("ij,ij->j", values, values)
    left = squares - (np.square(basis.T @ values)).sum(axis=0)
    whole = squares - count * np.square(values.mean(axis=0))
    # Exact regressions leave rounding error only: the gain is cut at a million.
    return whole / np.maximum(left * count / (count - basis.shape[1]), 1e-6 * whole)
