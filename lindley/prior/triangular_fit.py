"""Fitting to weighted draws: triangular maps, and warps of single margins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from lindley.prior.triangular import TriangularMap, log_cosh

#: Ridge on nonlinear terms, in whitened coordinates: a map from few draws stays near the normal.
_RIDGE = 1e-3
#: Bounds of nonlinear terms: beyond them a map fits noise in the tails.
_MOST_WIDEN, _MOST_SKEW, _MOST_LOG_TAIL = 1.0, 1.5, 0.7


def fit_margins(draws: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit a warp to each margin of draws [draw, coordinate] by penalised maximum likelihood.

    Returns
    -------
    tuple
        Margins [`MARGINS`, coordinate] and the draws with the warp undone [draw, coordinate]: each
        coordinate then has nearly a standard normal margin.
    """
    center, spread = _scale(draws, weights)
    nothing = np.zeros((len(draws), 0))
    steps = [_fit_step(column, nothing, weights) for column in ((draws - center) / spread).T]
    margins = np.array(
        [
            center + spread * np.array([step.loc for step in steps]),
            spread * np.exp([step.log_width for step in steps]),
            [step.skew for step in steps],
            [step.tail for step in steps],
        ]
    )
    return margins, np.column_stack([step.z for step in steps])


def fit_triangular(draws: np.ndarray, order: np.ndarray, weights: np.ndarray) -> TriangularMap:
    """Fit a triangular map to draws by penalised maximum likelihood, step by step.

    Parameters
    ----------
    draws
        Array [draw, coordinate].
    order
        Array [step]: the order in which coordinates are taken.
    weights
        Array [draw], not negative, summing to one.
    """
    size = draws.shape[1]
    center, spread = _scale(draws, weights)
    v = ((draws - center) / spread)[:, order]
    z = np.zeros_like(v)
    linear, quadratic = np.zeros((size, size)), np.zeros((size, size, size))
    widen, loc, log_width = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    skew, tail = np.zeros(size), np.ones(size)
    for k in range(size):
        step = _fit_step(v[:, k], z[:, :k], weights)
        unit = spread[order[k]]
        loc[k] = center[order[k]] + unit * step.loc
        linear[k, :k] = unit * step.linear
        quadratic[k, :k, :k] = unit * step.quadratic
        log_width[k] = np.log(unit) + step.log_width
        widen[k, :k] = step.widen
        skew[k], tail[k] = step.skew, step.tail
        z[:, k] = step.z
    return TriangularMap(np.array(order), loc, linear, log_width, quadratic, widen, skew, tail)


class _Step(NamedTuple):
    loc: float
    linear: np.ndarray
    quadratic: np.ndarray
    log_width: float
    widen: np.ndarray
    skew: float
    tail: float
    z: np.ndarray


def _scale(draws: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return weighted mean and sd [coordinate] of draws [draw, coordinate]."""
    center = weights @ draws
    return center, np.sqrt(weights @ (draws - center) ** 2)


def _fit_step(v: np.ndarray, given: np.ndarray, weights: np.ndarray) -> _Step:
    """Fit one step: v [draw] given the z before it [draw, step], with weights [draw]."""
    count, before = given.shape
    pairs = np.triu_indices(before)
    design = np.column_stack([np.ones(count), given, given[:, pairs[0]] * given[:, pairs[1]]])
    root = np.sqrt(weights)
    start = np.linalg.lstsq(root[:, None] * design, root * v, rcond=None)[0]
    residual = v - design @ start
    terms = design.shape[1]
    ridge = np.zeros(terms)
    ridge[1 + before :] = _RIDGE

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        c, log_width, s, e, log_tail = x[:terms], x[terms], x[terms + 1 : -2], x[-2], x[-1]
        tail, log_scale = np.exp(log_tail), log_width + given @ s
        scaled = (v - design @ c) * np.exp(-log_scale)
        inner = tail * np.arcsinh(scaled) - e
        z = np.sinh(inner)
        value = weights @ (0.5 * z**2 - log_cosh(inner) - log_tail + 0.5 * np.log1p(scaled**2) + log_scale)
        d_inner = z * np.cosh(inner) - np.tanh(inner)
        d_scaled = d_inner * tail / np.sqrt(1 + scaled**2) + scaled / (1 + scaled**2)
        d_log_scale = 1 - d_scaled * scaled
        gradient = np.concatenate(
            [
                -(weights * d_scaled * np.exp(-log_scale)) @ design,
                [weights @ d_log_scale],
                (weights * d_log_scale) @ given,
                [-weights @ d_inner, weights @ (d_inner * tail * np.arcsinh(scaled)) - 1],
            ]
        )
        value += ridge @ c**2 + _RIDGE * (s @ s + e**2 + log_tail**2)
        gradient[:terms] += 2 * ridge * c
        gradient[terms + 1 : -2] += 2 * _RIDGE * s
        gradient[-2:] += 2 * _RIDGE * np.array([e, log_tail])
        return float(value), gradient

    first = np.concatenate([start, [0.5 * np.log(weights @ residual**2)], np.zeros(before), [0.0, 0.0]])
    bounds = [(None, None)] * (terms + 1) + [(-_MOST_WIDEN, _MOST_WIDEN)] * before
    bounds += [(-_MOST_SKEW, _MOST_SKEW), (-_MOST_LOG_TAIL, _MOST_LOG_TAIL)]
    with np.errstate(over="ignore", invalid="ignore"):
        x = minimize(objective, first, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 200}).x
    c, log_width, s, e, log_tail = x[:terms], x[terms], x[terms + 1 : -2], x[-2], x[-1]
    scaled = (v - design @ c) * np.exp(-(log_width + given @ s))
    quadratic = np.zeros((before, before))
    quadratic[pairs] = c[1 + before :]
    return _Step(
        loc=float(c[0]),
        linear=c[1 : 1 + before],
        quadratic=(quadratic + quadratic.T) / 2,
        log_width=float(log_width),
        widen=s,
        skew=float(e),
        tail=float(np.exp(log_tail)),
        z=np.sinh(np.exp(log_tail) * np.arcsinh(scaled) - e),
    )
