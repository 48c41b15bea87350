"""Triangular maps from whitened points to coordinates: the joint normal and its bent relatives.

With z ~ Normal(0, I) and the coordinates taken in an order of their own, coordinate k is

    u_k = loc_k + linear_k . z_<k + z_<k' quadratic_k z_<k
          + exp(log_width_k + widen_k . z_<k) * sinh((asinh(z_k) + skew_k) / tail_k)

(Knothe-Rosenblatt rearrangement; Marzouk et al. 2016, Handbook of Uncertainty Quantification, ch. 23; the
last factor is Jones & Pewsey 2009, Biometrika 96:761). Without bends (quadratic, widen and skew zero, tail
one) it is exactly the joint normal with its Cholesky factor. The bends hold what a normal cannot: curved
ridges, funnels (a width that depends on other parameters), skewness and tails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

#: Names of a map's arrays, in the order in which they are hashed, stored and passed to the engine.
ARRAYS = ("order", "loc", "linear", "log_width", "quadratic", "widen", "skew", "tail")

#: Ridge on bends, in units of whitened coordinates: an estimate from few draws stays near the normal.
_RIDGE = 1e-3
#: Bounds of the bends: beyond them a map fits noise in the tails.
_MOST_WIDEN, _MOST_SKEW, _MOST_LOG_TAIL = 1.0, 1.5, 0.7


@dataclass(frozen=True)
class TriangularMap:
    """A triangular map; arrays in map order, see the module.

    Parameters
    ----------
    order
        Array [step]: which coordinate each step of the map gives.
    loc, log_width, skew, tail
        Arrays [step].
    linear
        Array [step, step], strictly lower triangular.
    quadratic
        Array [step, bend, bend], symmetric in the last two; no bends at all have length 0.
    widen
        Array [step, bend].
    """

    order: np.ndarray
    loc: np.ndarray
    linear: np.ndarray
    log_width: np.ndarray
    quadratic: np.ndarray
    widen: np.ndarray
    skew: np.ndarray
    tail: np.ndarray

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return len(self.loc)

    @property
    def bent(self) -> bool:
        """Whether the map is more than a joint normal."""
        return bool(self.quadratic.size or np.any(self.skew) or np.any(self.tail != 1))

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return the arrays in the order of `ARRAYS`."""
        return tuple(getattr(self, name) for name in ARRAYS)

    def forward(self, z: np.ndarray) -> np.ndarray:
        """Map whitened points z [..., step] to coordinates u [..., coordinate]."""
        middle, width = self._given(z)
        u = np.empty_like(middle)
        u[..., self.order] = middle + width * np.sinh((np.arcsinh(z) + self.skew) / self.tail)
        return u

    def inverse(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Map coordinates u [..., coordinate] to z [..., step] and log|det dz/du| [...]."""
        v = u[..., self.order]
        z = np.zeros_like(v)
        log_slope = np.zeros(v.shape[:-1])
        for k in range(self.size):
            middle, width = self._given(z, k)
            scaled = (v[..., k] - middle) / width
            bent = self.tail[k] * np.arcsinh(scaled) - self.skew[k]
            z[..., k] = np.sinh(bent)
            log_slope += np.log(self.tail[k]) + _log_cosh(bent) - 0.5 * np.log1p(scaled**2) - np.log(width)
        return z, log_slope

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Return the log density [...] of coordinates u [..., coordinate]."""
        z, log_slope = self.inverse(u)
        return -0.5 * (z**2).sum(axis=-1) - 0.5 * self.size * np.log(2 * np.pi) + log_slope

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw `size` points; returns an array [draw, coordinate]."""
        return self.forward(rng.standard_normal((size, self.size)))

    def permuted(self, index: np.ndarray) -> TriangularMap:
        """Return the same distribution of ``u[index]``."""
        where = np.empty(self.size, dtype=int)
        where[index] = np.arange(self.size)
        return replace(self, order=where[self.order])

    def _given(self, z: np.ndarray, step: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return middle and width of all steps, or of one, given the z before them."""
        pick = slice(None) if step is None else step
        bends = z[..., : self.quadratic.shape[1]]
        middle = self.loc[pick] + z @ self.linear[pick].T
        log_width = self.log_width[pick] + np.zeros_like(middle)
        if self.quadratic.size:
            path = "...i,kij,...j->...k" if step is None else "...i,ij,...j->..."
            middle = middle + np.einsum(path, bends, self.quadratic[pick], bends)
            log_width = log_width + bends @ self.widen[pick].T
        return middle, np.exp(log_width)


def joint_normal(mean: np.ndarray, factor: np.ndarray) -> TriangularMap:
    """Return the joint normal with a mean [coordinate] and a lower Cholesky factor of its covariance."""
    size = len(mean)
    return TriangularMap(
        order=np.arange(size),
        loc=np.array(mean, dtype=float),
        linear=np.tril(factor, -1),
        log_width=np.log(np.diag(factor)),
        quadratic=np.zeros((size, 0, 0)),
        widen=np.zeros((size, 0)),
        skew=np.zeros(size),
        tail=np.ones(size),
    )


def fit_bent(draws: np.ndarray, order: np.ndarray) -> TriangularMap:
    """Fit a bent map to draws by penalised maximum likelihood, step by step.

    Parameters
    ----------
    draws
        Array [draw, coordinate].
    order
        Array [step]: the order in which coordinates are taken.
    """
    size = draws.shape[1]
    center, spread = draws.mean(axis=0), draws.std(axis=0)
    v = ((draws - center) / spread)[:, order]
    z = np.zeros_like(v)
    linear, quadratic = np.zeros((size, size)), np.zeros((size, size, size))
    widen, loc, log_width = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    skew, tail = np.zeros(size), np.ones(size)
    for k in range(size):
        step = _fit_step(v[:, k], z[:, :k])
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


def _fit_step(v: np.ndarray, given: np.ndarray) -> _Step:
    """Fit one step: v [draw] given the z before it [draw, step]."""
    count, before = given.shape
    pairs = np.triu_indices(before)
    design = np.column_stack([np.ones(count), given, given[:, pairs[0]] * given[:, pairs[1]]])
    start = np.linalg.lstsq(design, v, rcond=None)[0]
    residual = v - design @ start
    terms = design.shape[1]
    ridge = np.zeros(terms)
    ridge[1 + before :] = _RIDGE

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        c, log_width, s, e, log_tail = x[:terms], x[terms], x[terms + 1 : -2], x[-2], x[-1]
        tail, log_scale = np.exp(log_tail), log_width + given @ s
        scaled = (v - design @ c) * np.exp(-log_scale)
        bent = tail * np.arcsinh(scaled) - e
        z = np.sinh(bent)
        value = np.mean(0.5 * z**2 - _log_cosh(bent) - log_tail + 0.5 * np.log1p(scaled**2) + log_scale)
        d_bent = z * np.cosh(bent) - np.tanh(bent)
        d_scaled = d_bent * tail / np.sqrt(1 + scaled**2) + scaled / (1 + scaled**2)
        d_log_scale = 1 - d_scaled * scaled
        gradient = np.concatenate(
            [
                -(d_scaled * np.exp(-log_scale)) @ design / count,
                [d_log_scale.mean()],
                d_log_scale @ given / count,
                [-d_bent.mean(), (d_bent * tail * np.arcsinh(scaled)).mean() - 1],
            ]
        )
        value += ridge @ c**2 + _RIDGE * (s @ s + e**2 + log_tail**2)
        gradient[:terms] += 2 * ridge * c
        gradient[terms + 1 : -2] += 2 * _RIDGE * s
        gradient[-2:] += 2 * _RIDGE * np.array([e, log_tail])
        return float(value), gradient

    first = np.concatenate([start, [np.log(residual.std())], np.zeros(before), [0.0, 0.0]])
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


def _log_cosh(x: np.ndarray) -> np.ndarray:
    """Return log cosh x without overflow."""
    size = np.abs(x)
    return size + np.log1p(np.exp(-2 * size)) - np.log(2)
