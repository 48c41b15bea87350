"""Importance sampling of a target by the map that was matched to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from arviz_stats.base import array_stats
from scipy.special import logsumexp

from lindley.prior.mixture import Map

#: Points drawn from a map or around it, and how much wider than it the latter lie.
_POINTS, _WIDER = 2000, 1.2
#: Draws at most, and draws of the proposal, from which an integral is estimated by bridge sampling, and
#: rounds of its iteration.
_BRIDGE, _BRIDGE_ROUNDS = 4000, 1000
#: Beyond both the integral of the weights is unknown: no estimate of it is reliable with such a tail
#: (Vehtari et al. 2024, JMLR 25:72, section 3.2.4), and few of the points carry it.
_UNKNOWN_K, _UNKNOWN_EFFICIENCY = 0.7, 0.1


@dataclass(frozen=True)
class Importance:
    """Importance sampling of a target by the map matched to it.

    Parameters
    ----------
    k_hat
        Pareto shape of the weights' tail; infinite where no weight is left.
    efficiency
        1 / (n sum w^2) of the normalised weights: 1 where the map is the target.
    log_evidence
        Log of the target's integral: the log predictive density of the batch under its prior. NaN where
        the weights do not determine it, as with hundreds of local variables.
    log_evidence_se
        Its Monte Carlo standard error, to first order.
    """

    k_hat: float
    efficiency: float
    log_evidence: float
    log_evidence_se: float


def importance(
    proposal: Map,
    target: Callable[[np.ndarray], np.ndarray],
    *,
    rng: np.random.Generator,
    size: int = _POINTS,
) -> Importance:
    """Importance-sample a target by the map that was matched to it, and measure the error of the map.

    Parameters
    ----------
    proposal
        The map matched to the target's draws.
    target
        Its log density, normalised up to the evidence, at points [point, coordinate]; returns [point].
    rng, size
        Source and number of the proposal's draws.
    """
    points = proposal.sample(rng, size)
    with np.errstate(all="ignore"):
        log_weights = target(points) - proposal.log_density(points)
    log_weights = np.where(np.isfinite(log_weights), log_weights, -np.inf)
    if not np.isfinite(log_weights).any():
        return Importance(k_hat=np.inf, efficiency=0.0, log_evidence=-np.inf, log_evidence_se=np.inf)
    # Points outside the target's support have weight zero; the smoothing needs finite logs.
    floor = log_weights[np.isfinite(log_weights)].min() - 700.0
    smooth, k_hat = smoothed(np.maximum(log_weights, floor))
    weights = np.exp(smooth - logsumexp(smooth))
    spread = float((weights**2).sum())
    k_hat, efficiency = k_hat if np.isfinite(k_hat) else np.inf, 1 / (size * spread)
    if k_hat > _UNKNOWN_K and efficiency < _UNKNOWN_EFFICIENCY:
        return Importance(k_hat, efficiency, log_evidence=np.nan, log_evidence_se=np.inf)
    error = float(np.sqrt(max(0.0, spread - 1 / size)))
    return Importance(k_hat, efficiency, log_evidence=log_integral(log_weights), log_evidence_se=error)


def bridge(
    proposal: Map,
    target: Callable[[np.ndarray], np.ndarray],
    draws: np.ndarray,
    *,
    ess: float,
    rng: np.random.Generator,
) -> tuple[float, float]:
    """Return the log of a target's integral by bridge sampling, and its standard error.

    It uses draws of the target and of the proposal, and fails only where these do not overlap: neither has
    to have the wider tails (Meng & Wong 1996, Statistica Sinica 6:831; the error is that of
    Frühwirth-Schnatter 2004, Econometrics Journal 7:143).

    Parameters
    ----------
    proposal, target
        A normalised density near the target, and the target's log density at points [point, coordinate].
    draws, ess
        Draws [draw, coordinate] of the target, and their effective number.
    rng
        Source of the proposal's draws.

    Returns
    -------
    tuple
        NaN and infinity where there is no overlap.
    """
    chosen = draws[np.linspace(0, len(draws) - 1, min(_BRIDGE, len(draws))).astype(int)]
    own, points = max(min(ess, len(chosen)), 1.0), proposal.sample(rng, _BRIDGE)
    with np.errstate(all="ignore"):
        of_draws, of_points = (target(at) - proposal.log_density(at) for at in (chosen, points))
    of_draws, of_points = of_draws[np.isfinite(of_draws)], np.where(np.isnan(of_points), -np.inf, of_points)
    if not len(of_draws) or not np.isfinite(of_points).any():
        return np.nan, np.inf
    log_own, log_other = np.log(own / (own + _BRIDGE)), np.log(_BRIDGE / (own + _BRIDGE))
    found = float(np.median(of_draws))
    for _ in range(_BRIDGE_ROUNDS):
        above = of_points - np.logaddexp(log_own + of_points, log_other + found)
        below = -np.logaddexp(log_own + of_draws, log_other + found)
        new = logsumexp(above) - np.log(_BRIDGE) - logsumexp(below) + np.log(len(of_draws))
        if not np.isfinite(new):
            return np.nan, np.inf
        if abs(new - found) < 1e-10:
            break
        found = float(new)
    one, other = np.exp(above - above.max()), np.exp(below - below.max())
    variance = one.var() / one.mean() ** 2 / _BRIDGE + other.var() / other.mean() ** 2 / own
    return found, float(np.sqrt(variance))


def around(matched: Map, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return points [point, coordinate] around a posterior and the log density [point] they are drawn from.

    They are somewhat wider than the map that was matched to it, so that they cover other targets nearby.
    """
    wide = matched.stretched(np.full(matched.size, _WIDER))
    points = wide.sample(rng, _POINTS)
    return points, wide.log_density(points)


def log_integral(log_ratio: np.ndarray) -> float:
    """Return the log of a target's integral from log target - log proposal [point]."""
    finite = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    return float(logsumexp(finite) - np.log(len(finite)))


def smoothed(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Return Pareto-smoothed log weights [point] and the shape of their tail."""
    if np.ptp(np.sort(log_weights)[len(log_weights) // 2 :]) < 1e-12:
        return log_weights, -1.0  # Weights that do not differ have no tail.
    # psislw is made for leave-one-out: it takes the logarithm of one over the weights.
    # An extreme tail overflows on the way: its shape is then infinite.
    with np.errstate(over="ignore"):
        smoothed, k_hat = array_stats.psislw(-log_weights)
    return smoothed, float(k_hat)
