"""Matching a map to draws: the joint normal, or a bent map where draws say that they need one.

The choice is made for each link and recorded with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lindley.transport import TriangularMap, fit_bent, joint_normal

#: Coordinates above which only the joint normal is tried: a bent map has of the order of d^3 numbers.
MOST_BENT = 12
#: Draws per number of a bent map at least.
_DRAWS_PER_NUMBER = 5
#: Third moments of whitened draws below this do not bend intervals by more than about a percent.
_SMALL_MOMENT = 0.05
#: Gain in held-out log score, nats per draw, below which the simpler map is kept.
_SMALL_GAIN = 0.005
#: Draws used to fit and to compare bent maps.
_FIT_DRAWS = 3000


@dataclass(frozen=True)
class Match:
    """A map with the reason for its kind."""

    map: TriangularMap
    reason: str


def match_map(draws: np.ndarray, factor: np.ndarray, *, last: np.ndarray | None = None) -> Match:
    """Match a map to draws.

    Parameters
    ----------
    draws
        Array [draw, coordinate], chain after chain.
    factor
        Lower Cholesky factor [coordinate, coordinate] of their covariance.
    last
        Array [coordinate] of bool: coordinates that a bent map takes last (carried state, which is a
        function of parameters).

    Returns
    -------
    Match
        The joint normal with the draws' mean and covariance, unless a bent map has a better held-out
        log score by more than twice its standard error.
    """
    normal = joint_normal(draws.mean(axis=0), factor)
    count, size = draws.shape
    numbers = size + size * (size + 1) + size**2 * (size + 1) // 6
    if size > MOST_BENT:
        return Match(normal, f"{size} coordinates, above {MOST_BENT}")
    if count < _DRAWS_PER_NUMBER * numbers:
        return Match(normal, f"{count} draws for a bent map of {numbers} numbers")
    moment = _largest_moment(normal.inverse(draws)[0])
    if moment < max(_SMALL_MOMENT, 5 * np.sqrt(15 / count)):
        return Match(normal, f"third and fourth moments of the draws are normal (largest {moment:.2f})")
    train, test = _halves(draws)
    base_score = _normal_of(train).log_density(test)
    gains = []
    for order in _orders(train, last):
        difference = fit_bent(train, order).log_density(test) - base_score
        gains.append((float(difference.mean()), float(difference.std() / np.sqrt(len(test))), order))
    gain, error, order = max(gains, key=lambda item: item[0])
    text = f"held-out log score {gain:+.3f} ± {error:.3f} nats per draw against the joint normal"
    if not gain > max(_SMALL_GAIN, 2 * error):
        return Match(normal, text)
    return Match(fit_bent(_thinned(draws), order), text)


def match_like(draws: np.ndarray, factor: np.ndarray, like: TriangularMap) -> TriangularMap:
    """Match a map of the kind and order of `like` to draws [draw, coordinate]."""
    if like.bent:
        return fit_bent(_thinned(draws), like.order)
    return joint_normal(draws.mean(axis=0), factor)


def _normal_of(draws: np.ndarray) -> TriangularMap:
    """Return the joint normal of draws; a ridge of 1e-8 holds what is singular up to rounding."""
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    ridge = 1e-8 * np.diag(np.diag(covariance))
    return joint_normal(draws.mean(axis=0), np.linalg.cholesky(covariance + ridge))


def _largest_moment(z: np.ndarray) -> float:
    """Return the largest third moment E[z_i z_j z_k], or excess kurtosis / 4, of whitened draws."""
    third = np.einsum("ni,nj,nk->ijk", z, z, z, optimize=True) / len(z)
    excess = (z**4).mean(axis=0) - 3
    return float(max(np.abs(third).max(), np.abs(excess).max() / 4))


def _thinned(draws: np.ndarray) -> np.ndarray:
    """Return at most `_FIT_DRAWS` draws, evenly spaced."""
    return draws[:: max(1, -(-len(draws) // _FIT_DRAWS))]


def _halves(draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the second half: other chains, so that the halves are independent."""
    half = len(draws) // 2
    return _thinned(draws[:half]), _thinned(draws[half:])


def _orders(draws: np.ndarray, last: np.ndarray | None) -> list[np.ndarray]:
    """Return the orders that are tried: as declared, and the most influential coordinate first.

    Influence is how well a coordinate predicts the squared residuals of the others: a dispersion
    comes before what it disperses.
    """
    size = draws.shape[1]
    late = np.zeros(size, dtype=bool) if last is None else last
    v = (draws - draws.mean(axis=0)) / draws.std(axis=0)
    influence = np.zeros((size, size))
    for i in range(size):
        for j in range(size):
            if i != j:
                residual = v[:, j] - np.mean(v[:, i] * v[:, j]) * v[:, i]
                influence[i, j] = np.corrcoef(v[:, i], np.log(residual**2 + 1e-12))[0, 1] ** 2
    net = influence.sum(axis=1) - influence.sum(axis=0)
    declared = np.lexsort((np.arange(size), late))
    influential = np.lexsort((-net, late))
    orders = [declared]
    if not np.array_equal(declared, influential):
        orders.append(influential)
    return orders
