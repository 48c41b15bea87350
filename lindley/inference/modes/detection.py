"""Separated modes of a posterior, found in its draws: where a density has a valley that few draws lie in.

Draws are projected on directions in which they may fall apart: each coordinate, the differences of chain
means, and the directions with the lowest and highest fourth moment (Tyler et al. 2009, JRSS B 71:549, with
scatter matrices of second and fourth moments). Where the density along one of them has a deep valley, the
draws are split there, the split is improved by linear discriminants, and both sides are searched again.
Everything is deterministic.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.stats import chi2

from lindley.prior.matching import weighted_moments

#: Largest density in a valley, relative to the lower one of the peaks beside it: draws that passed the
#: gate, and draws that did not, of which a slow chain makes peaks and valleys where the density has none.
_VALLEY, _VALLEY_OF_FAILED = 0.2, 0.05
#: Smallest share of the draws on one side of a valley.
_LEAST_SHARE = 0.02
#: Modes that are looked for: one more than are carried, so that too many are noticed.
MOST = 5
#: Bins of a projected density, coordinates that are tried singly, draws per coordinate for directions that
#: are combinations, and rounds of linear discriminants.
_BINS, _SINGLY, _PER_COORDINATE, _ROUNDS = 200, 50, 20, 4


def labels_of(points: np.ndarray, *, passed: bool) -> np.ndarray:
    """Return the mode that each draw belongs to, array [chain, draw] of 0, 1, ...; all 0 in one mode.

    Parameters
    ----------
    points
        Array [chain, draw, coordinate].
    passed
        Whether the draws passed the gate.
    """
    chains, draws, size = points.shape
    flat = points.reshape(-1, size)
    labels = np.zeros(len(flat), dtype=int)
    if not np.isfinite(flat).all() or not (flat.std(axis=0) > 0).all():
        return labels.reshape(chains, draws)
    chain = np.repeat(np.arange(chains), draws)
    valley, least = _VALLEY if passed else _VALLEY_OF_FAILED, int(np.ceil(_LEAST_SHARE * len(flat)))
    waiting = [0]
    while waiting and labels.max() + 1 < MOST:
        mode = waiting.pop()
        inside = np.flatnonzero(labels == mode)
        right = _split(flat[inside], chain[inside], valley, least)
        if right is not None:
            new = int(labels.max()) + 1
            labels[inside[right]] = new
            waiting += [mode, new]
    return labels.reshape(chains, draws)


@dataclass(frozen=True)
class Regions:
    """Which mode a point belongs to: the one whose normal density there is highest.

    Parameters
    ----------
    means, factors
        Arrays [mode, coordinate] and [mode, coordinate, coordinate]: mean and Cholesky factor of the
        covariance of each mode's draws.
    """

    means: np.ndarray
    factors: np.ndarray

    @classmethod
    def of(cls, modes: list[np.ndarray]) -> Regions:
        """Return the regions of some modes by their draws, arrays [draw, coordinate]."""
        means, factors = [], []
        for draws in modes:
            mean, covariance = weighted_moments(draws, np.full(len(draws), 1 / len(draws)))
            sd = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
            with np.errstate(over="ignore", invalid="ignore"):
                scaled = covariance / np.outer(sd, sd)
            scaled = np.where(np.isfinite(scaled), scaled, 0.0) + 1e-6 * np.eye(len(sd))
            means.append(mean)
            factors.append(sd[:, None] * np.linalg.cholesky(scaled))
        return cls(np.array(means), np.array(factors))

    def and_of(self, draws: np.ndarray) -> Regions:
        """Return the regions with that of a further mode, by its draws [draw, coordinate]."""
        more = Regions.of([draws])
        means = np.concatenate([self.means, more.means])
        return Regions(means, np.concatenate([self.factors, more.factors]))

    def distances(self, points: np.ndarray) -> np.ndarray:
        """Return squared Mahalanobis distances [mode, ...] of points [..., coordinate]."""
        flat = points.reshape(-1, points.shape[-1])
        z = [(flat - m) @ inverse.T for m, inverse in zip(self.means, self._inverses, strict=True)]
        return np.array([(one**2).sum(axis=1) for one in z]).reshape(-1, *points.shape[:-1])

    @cached_property
    def _inverses(self) -> np.ndarray:
        """Inverses [mode, coordinate, coordinate] of the factors: ascents ask for many distances."""
        return np.linalg.inv(self.factors)

    @cached_property
    def _limit(self) -> float:
        """Squared distance up to which a point is near a mode."""
        return float(4 * chi2.isf(1e-6, self.means.shape[1]))

    def of_points(self, points: np.ndarray) -> np.ndarray:
        """Return the mode [...] of each point [..., coordinate]."""
        widths = np.array([np.log(np.diag(factor)).sum() for factor in self.factors])
        distances = self.distances(points)
        return np.asarray((distances / 2 + widths.reshape(-1, *[1] * (points.ndim - 1))).argmin(axis=0))

    def near(self, points: np.ndarray) -> np.ndarray:
        """Whether points [..., coordinate] are at most twice as far from a mode as its own draws."""
        return np.asarray((self.distances(points) <= self._limit).any(axis=0))


def _split(points: np.ndarray, chain: np.ndarray, valley: float, least: int) -> np.ndarray | None:
    """Return which points [draw, coordinate] lie beyond a valley, array [draw] of bool; None without one."""
    count, size = points.shape
    if count < 2 * least:
        return None
    x = (points - points.mean(axis=0)) / np.where(points.std(axis=0) > 0, points.std(axis=0), 1.0)
    found = [_valley(x @ direction, least) for direction in _directions(x, chain)]
    depth, right = min(found, key=lambda item: item[0])
    if size > 1 and count >= _PER_COORDINATE * size:
        for _ in range(_ROUNDS):
            if not np.isfinite(depth):
                break
            deeper, again = _valley(x @ _discriminant(x, right), least)
            if not deeper < depth:
                break
            depth, right = deeper, again
    return right if depth <= valley else None


def _directions(x: np.ndarray, chain: np.ndarray) -> np.ndarray:
    """Return the directions [direction, coordinate] on which standardised draws are projected."""
    count, size = x.shape
    kurtosis = (x**4).mean(axis=0)
    order = np.argsort(kurtosis, kind="stable")
    singly = order if size <= _SINGLY else np.concatenate([order[: _SINGLY // 2], order[-_SINGLY // 2 :]])
    found = [np.eye(size)[np.sort(singly)]]
    means = np.array([x[chain == one].mean(axis=0) for one in np.unique(chain)])
    if len(means) > 1 and size > 1:
        found.append(np.linalg.svd(means - means.mean(axis=0), full_matrices=False)[2][:2])
    if size > 1 and count >= _PER_COORDINATE * size:
        values, vectors = np.linalg.eigh(x.T @ x / count)
        whitening = vectors[:, values > 1e-10] / np.sqrt(values[values > 1e-10])
        white = x @ whitening
        fourth = np.linalg.eigh((white * (white**2).sum(axis=1, keepdims=True)).T @ white / count)[1]
        found.append((whitening @ fourth[:, [0, -1]]).T)
    return np.concatenate(found)


def _discriminant(x: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Return Fisher's linear discriminant [coordinate] of two classes of points [draw, coordinate]."""
    one, other = x[~right], x[right]
    within = np.atleast_2d(np.cov(one, rowvar=False)) + np.atleast_2d(np.cov(other, rowvar=False))
    ridge = 1e-8 * np.trace(within) / len(within) * np.eye(len(within))
    return np.asarray(np.linalg.solve(within + ridge, other.mean(axis=0) - one.mean(axis=0)))


def _valley(values: np.ndarray, least: int) -> tuple[float, np.ndarray]:
    """Return the depth of the deepest valley of a projection [draw], and which draws are beyond it.

    The depth is the density in the valley relative to the lower one of the peaks beside it, infinite without
    a valley that has `least` draws on either side.
    """
    low, high = values.min(), values.max()
    if not high > low:
        return np.inf, np.zeros(len(values), dtype=bool)
    # Between the draws that are counted from the ends, so that far outliers do not make the bins wide.
    ends = np.partition(values, (least // 2, len(values) - 1 - least // 2))
    low, high = ends[least // 2], ends[len(values) - 1 - least // 2]
    counts, edges = np.histogram(values, bins=_BINS, range=(low, high)) if high > low else (None, None)
    if counts is None or edges is None:
        return np.inf, np.zeros(len(values), dtype=bool)
    density = gaussian_filter1d(counts.astype(float), 3.0, mode="constant")
    left, right = np.maximum.accumulate(density), np.maximum.accumulate(density[::-1])[::-1]
    relative = density / np.maximum(np.minimum(left, right), 1e-300)
    below = np.cumsum(counts) - counts / 2
    allowed = (below >= least) & (counts.sum() - below >= least)
    if not allowed.any():
        return np.inf, np.zeros(len(values), dtype=bool)
    best = float(relative[allowed].min())
    # In the middle of an empty valley.
    places = np.flatnonzero(allowed & (relative <= best + 1e-12))
    place = places[len(places) // 2]
    cut = (edges[place] + edges[place + 1]) / 2
    return best, values > cut
