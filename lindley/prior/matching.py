"""Matching a map to draws: the joint normal, warped margins, or a triangular map where it fits better.

The choice is made for each link and recorded with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lindley.errors import FitFailed
from lindley.prior.stein import CalibratedWeights, equal_weights
from lindley.prior.triangular import TriangularMap, joint_normal
from lindley.prior.triangular_fit import fit_margins, fit_triangular

#: Families that can be asked for; ``auto`` picks one per link.
AUTO, NORMAL, SINH_ARCSINH, TRIANGULAR = "auto", "normal", "sinh-arcsinh", "triangular"
#: One of these for each separated mode; see `lindley.prior.mixture`.
MIXTURE = "mixture"

#: Coordinates above which ``auto`` tries no triangular map: it has of the order of d^3 numbers.
MOST_TRIANGULAR = 12
#: Draws per number of a triangular map at least.
_DRAWS_PER_NUMBER = 5
#: Third moments of whitened draws below this move a mean by less than 0.01 sds where the next batch
#: doubles the data: the shift is a sixth of the moment.
_SMALL_MOMENT = 0.05
#: Gain in held-out log score, nats per draw, below which the simpler map is kept. A skewness of s is worth
#: s^2 / 12 nats.
_SMALL_GAIN = 2e-4
#: Degree of the calibration that makes third moments exact near normality.
_EXACT_ORDER = 3
#: Effective draws per coordinate below which the correlation matrix is shrunk.
_FEW_DRAWS = 10


@dataclass(frozen=True)
class Match:
    """A map with the reason for its kind, and how far its correlations were shrunk to zero (0 to 1)."""

    map: TriangularMap
    reason: str
    shrinkage: float = 0.0


@dataclass(frozen=True)
class _Sample:
    """Draws [draw, coordinate] with weights [draw], the shrinkage of correlations, and coordinates' names."""

    draws: np.ndarray
    weights: np.ndarray
    shrinkage: float
    names: list[str]

    def normal(self) -> TriangularMap:
        """Return the joint normal with the draws' mean and covariance."""
        mean, covariance = weighted_moments(self.draws, self.weights)
        try:
            return joint_normal(mean, covariance_factor(covariance, self.names, self.shrinkage))
        except FitFailed:
            # Negative weights can cost the covariance its definiteness where it is nearly singular.
            count = len(self.draws)
            mean, covariance = weighted_moments(self.draws, np.full(count, 1 / count))
            return joint_normal(mean, covariance_factor(covariance, self.names, self.shrinkage))

    def fitted(self, family: str, order: np.ndarray) -> TriangularMap:
        """Fit a map that is not normal; weights are taken as they are, but for negative ones."""
        share = np.maximum(self.weights, 0.0)
        share = share / share.sum()
        if family == TRIANGULAR:
            return fit_triangular(self.draws, order, share)
        margins, rest = fit_margins(self.draws, share)
        mean, covariance = weighted_moments(rest, share)
        normal = joint_normal(mean, covariance_factor(covariance, self.names, self.shrinkage))
        return replace(normal, margins=margins)


def match_map(
    draws: np.ndarray,
    names: list[str],
    *,
    calibration: CalibratedWeights | None = None,
    halves: tuple[CalibratedWeights, CalibratedWeights] | None = None,
    ess: float | None = None,
    last: np.ndarray | None = None,
    family: str = AUTO,
) -> Match:
    """Match a map to draws.

    Parameters
    ----------
    draws
        Array [draw, coordinate], chain after chain.
    names
        Names of the coordinates, for errors.
    calibration, halves
        Weights of the draws, and of each half of them separately; equal by default.
    ess
        Effective sample size of the draws; their number by default.
    last
        Array [coordinate] of bool: coordinates that a triangular map takes last (carried state, which is a
        function of parameters).
    family
        ``auto``, or the family to match.

    Returns
    -------
    Match
        With ``auto`` the joint normal with the draws' mean and covariance, unless a map with warped
        margins or a triangular one has a better held-out log score by more than twice its standard error.

    Raises
    ------
    FitFailed
        If a coordinate did not move, or the covariance cannot be factored.
    """
    calibration = calibration or equal_weights(len(draws))
    half = len(draws) // 2
    halves = halves or (equal_weights(half), equal_weights(len(draws) - half))
    shrinkage = _shrinkage(draws, len(draws) if ess is None else ess)
    sample = _Sample(draws, calibration.weights, shrinkage, names)
    normal = sample.normal()  # for every family: it refuses coordinates that did not move
    if family == AUTO:
        found = _choose(sample, normal, calibration, halves, last)
    else:
        like = normal if family == NORMAL else sample.fitted(family, np.arange(len(names)))
        found = Match(like, f"{family} asked for")
    # A triangular map has no correlation matrix: its ridge keeps it near the normal.
    shrinkage = 0.0 if found.map.triangular else shrinkage
    shrunk = f"; correlations shrunk by {shrinkage:.3f}" if shrinkage else ""
    return replace(found, reason=found.reason + shrunk, shrinkage=shrinkage)


def match_like(
    draws: np.ndarray, weights: np.ndarray, like: TriangularMap | None, shrinkage: float, names: list[str]
) -> TriangularMap:
    """Match a map to draws [draw, coordinate] with weights [draw].

    Of the kind and order of `like`; the joint normal where there is none.
    """
    sample = _Sample(draws, weights, shrinkage, names)
    normal = sample.normal()  # for every family: it refuses coordinates that did not move
    if like is None or like.normal:
        return normal
    return sample.fitted(TRIANGULAR if like.triangular else SINH_ARCSINH, like.order)


def covariance_factor(covariance: np.ndarray, names: list[str], shrinkage: float = 0.0) -> np.ndarray:
    """Return the lower Cholesky factor of a covariance, by way of its correlation matrix.

    Scaling first keeps coordinates of very different units apart. When carried state is a function of
    carried parameters the matrix is singular up to rounding; the smallest ridge that factors it is
    added (1e-14 to 1e-8 of each variance).

    Parameters
    ----------
    covariance
        Array [coordinate, coordinate].
    names
        Names of the coordinates, for errors.
    shrinkage
        Weight of the identity in the correlation matrix.

    Raises
    ------
    FitFailed
        If a coordinate did not move, or the matrix cannot be factored.
    """
    sd = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    if not (sd > 0).all():
        frozen = [names[i] for i in np.flatnonzero(~(sd > 0))]
        raise FitFailed(
            "The posterior cannot be matched: some coordinates did not move",
            found=f"zero variance in {', '.join(frozen[:5])}",
            todo="check that the sampler could move them, or leave them out of `carried`",
        )
    correlation = covariance / np.outer(sd, sd)
    correlation = (1 - shrinkage) * correlation + shrinkage * np.eye(len(sd))
    for ridge in (0.0, 1e-14, 1e-12, 1e-10, 1e-8):
        try:
            factor = np.linalg.cholesky(correlation + ridge * np.eye(len(sd)))
        except np.linalg.LinAlgError:
            continue
        return np.ascontiguousarray(sd[:, None] * factor)
    raise FitFailed(
        "The posterior cannot be matched: its covariance cannot be factored",
        expected="a positive definite covariance",
        found=f"smallest eigenvalue of the correlation matrix {np.linalg.eigvalsh(correlation)[0]:.3g}",
        todo="check for carried variables that are functions of each other",
    )


def weighted_moments(draws: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [coordinate] and covariance of draws [draw, coordinate] under weights [draw]."""
    mean = weights @ draws
    centred = draws - mean
    covariance = (weights[:, None] * centred).T @ centred
    if np.ptp(weights) == 0:
        covariance *= len(draws) / (len(draws) - 1)  # the unbiased estimate
    return mean, covariance


def _choose(
    sample: _Sample,
    normal: TriangularMap,
    calibration: CalibratedWeights,
    halves: tuple[CalibratedWeights, CalibratedWeights],
    last: np.ndarray | None,
) -> Match:
    """Pick the family by held-out log score."""
    draws = sample.draws
    count, size = draws.shape
    third, excess = moments(normal.inverse(draws)[0], calibration.weights)
    # Errors of plain moments; calibration makes the third ones exact near normality.
    noise = 5 * np.sqrt(15 / count) if calibration.order < _EXACT_ORDER else 0.0
    moment = max(third, excess)
    if third < max(_SMALL_MOMENT, noise) and excess < max(_SMALL_MOMENT, 5 * np.sqrt(24 / count) / 4):
        return Match(normal, f"third and fourth moments of the draws are normal (largest {moment:.2f})")
    numbers = size + size * (size + 1) + size**2 * (size + 1) // 6
    orders = [(SINH_ARCSINH, np.arange(size))]
    why_not = ""
    if size > MOST_TRIANGULAR:
        why_not = f"; no triangular map above {MOST_TRIANGULAR} coordinates"
    elif count < _DRAWS_PER_NUMBER * numbers:
        why_not = f"; {count} draws are few for a triangular map of {numbers} numbers"
    else:
        orders += [(TRIANGULAR, order) for order in _orders(draws, last)]
    half = count // 2
    # The halves are of different chains, hence independent.
    train, test = replace(sample, draws=draws[:half], weights=halves[0].weights), draws[half:]
    base = replace(train, shrinkage=max(sample.shrinkage, 1e-8)).normal()
    base_score = base.log_density(test)
    tried = []
    for family, order in orders:
        gain, error = halves[1].mean(train.fitted(family, order).log_density(test) - base_score)
        tried.append((gain, error, family, order))
    gain, error, family, order = max(tried, key=lambda item: item[0])
    text = f"held-out log score of {family} {gain:+.4f} ± {error:.4f} nats per draw against the joint normal"
    if not gain > max(_SMALL_GAIN, 2 * error):
        return Match(normal, text + why_not)
    return Match(sample.fitted(family, order), text + why_not)


def _shrinkage(draws: np.ndarray, ess: float) -> float:
    """Return the weight of the identity in the correlation matrix (Ledoit & Wolf 2004, JMVA 88:365)."""
    count, size = draws.shape
    if size < 2 or ess >= _FEW_DRAWS * size:
        return 0.0
    spread = draws.std(axis=0)
    if not (spread > 0).all():
        return 0.0
    # Here to save start-up time: half a second that few fits need.
    from sklearn.covariance import ledoit_wolf_shrinkage

    # The formula is for independent draws: take as many of them, evenly spaced, as the effective sample size.
    chosen = np.linspace(0, count - 1, max(2, int(min(ess, count)))).astype(int)
    return float(ledoit_wolf_shrinkage((draws[chosen] - draws.mean(axis=0)) / spread))


def moments(z: np.ndarray, weights: np.ndarray) -> tuple[float, float]:
    """Return the largest third moment E[z_i z_j z_k] and the largest excess kurtosis / 4 of whitened draws.

    Parameters
    ----------
    z
        Array [draw, coordinate].
    weights
        Array [draw].
    """
    # One product of matrices for each coordinate: summing over draws takes ten times as long. Those of the
    # coordinates before it are known by symmetry.
    weighted = weights[:, None] * z
    third = max(float(np.abs((weighted[:, k:] * z[:, [k]]).T @ z[:, k:]).max()) for k in range(z.shape[1]))
    excess = weights @ z**4 - 3
    return third, float(np.abs(excess).max() / 4)


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
    return [declared] if np.array_equal(declared, influential) else [declared, influential]
