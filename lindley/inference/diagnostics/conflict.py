"""Conflict of a batch with the belief before it: a test whose size is right by construction.

What a batch says about the parameters is its score, the gradient of its log likelihood at the middle of the
belief before it. Batches simulated from the prior predictive give the distribution that the score has if
belief and model are right (Box 1980, JRSS A 143:383; Evans & Moshonov 2006, Bayesian Analysis 1:893, who
condition on a sufficient statistic as well). The observed one is a rank among them, in either tail: no normal
approximation and no estimate of the information enters.

Where batches cannot be simulated, the pull of the posterior against the prior takes its place
(`information_conflict`).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy import stats
from scipy.special import ndtri

from lindley.prior.mixture import Mixture

#: Values in a tail from which on it is extrapolated, and how many times as many give its slope.
_IN_TAIL, _BEHIND = 8, 6
#: Simulated batches below which there is no comparison.
_FEWEST = 100
#: Largest normal score that is told apart from larger ones.
_FARTHEST = 1e3
#: Directions whose share of the variance is below this are functions of the others.
_LEAST_VARIANCE = 1e-6


@dataclass(frozen=True)
class Conflict:
    """How surprising a batch is under the belief before it.

    Parameters
    ----------
    p
        The p-value; NaN where it could not be computed.
    pulls
        Signed normal scores of what the batch does to each coordinate, array [statistic]: standard normal
        where belief and model are right. Empty where no batches could be simulated.
    reason
        Why batches could not be simulated; empty where they were.
    """

    p: float
    pulls: np.ndarray = field(default_factory=lambda: np.zeros(0))
    reason: str = ""

    @property
    def score(self) -> float | None:
        """The normal score of the p-value, positive where the batch is surprising; None without one."""
        if not np.isfinite(self.p):
            return None
        return round(float(-ndtri(np.clip(self.p, 1e-15, 1 - 1e-15))), 6)


def conflict(observed: np.ndarray, simulated: np.ndarray) -> Conflict:
    """Return how surprising an observed statistic is among simulated ones; NaN where these are too few.

    Each coordinate is taken to normal scores by its simulated quantiles. Two statistics are compared with
    their simulated distribution: the Mahalanobis distance of all, and the largest score of one, which many
    coordinates that say nothing do not hide. The smaller p-value counts, and is itself a rank among the
    simulated ones. Below eight simulated exceedances the tail of a chi-squared distribution is fitted.

    Parameters
    ----------
    observed, simulated
        Arrays [statistic] and [simulation, statistic].
    """
    simulated, observed = np.asarray(simulated, dtype=float), np.asarray(observed, dtype=float)
    finite = np.isfinite(simulated).all(axis=1)
    if not len(observed) or np.count_nonzero(finite) < _FEWEST:
        return Conflict(np.nan, reason="too few simulated batches have a finite score")
    if not np.isfinite(observed).all():
        # Impossible in the middle of the belief: as surprising as that is among simulated batches.
        p = (1 + np.count_nonzero(~finite)) / (1 + len(simulated))
        return Conflict(p, np.zeros(len(observed)))
    # The observed row counts as one of them: under the hypothesis all rows are alike.
    ranks, scores = among(np.vstack([observed, simulated[finite]]))
    return Conflict(float(ranks[0]), scores[0])


def among(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the p-value of each row among all, and normal scores, arrays [row] and [row, statistic].

    Parameters
    ----------
    rows
        Array [row, statistic], finite.
    """
    scores = np.column_stack([normal_scores(column) for column in rows.T])
    p = _p_values(_distances(scores), max(1, int(np.count_nonzero(scores.std(axis=0)))))
    if scores.shape[1] > 1:
        p = _ranked(np.minimum(p, _p_values((scores**2).max(axis=1), 1)))
    return p, scores


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Return normal scores [value] of values by their own ranks, ties in the middle of theirs.

    In the outermost tails the score follows a line, so that it also measures how far a value is from the
    others. Values that do not differ have score 0.
    """
    with np.errstate(over="ignore"):
        spread = np.ptp(values)
    if not spread > 0:
        return np.zeros(len(values))
    if not np.isfinite(spread):
        values = values / 4  # the range overflows
    different, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - counts / 2) / len(values)
    scores = ndtri(ranks)
    for step in (1, -1):
        # Views of the upper tail are those of the lower one, backwards.
        _extend(scores[::step], different[::step], (ranks if step > 0 else 1 - ranks)[::step], len(values))
    return np.asarray(np.clip(scores, -_FARTHEST, _FARTHEST)[places])


def _extend(scores: np.ndarray, values: np.ndarray, ranks: np.ndarray, count: int) -> None:
    """Let the scores of a tail, which comes first, follow the line through what is behind it, in place."""
    edge, behind = np.searchsorted(ranks, [_IN_TAIL / count, _BEHIND * _IN_TAIL / count])
    if not 0 < edge < behind < len(values):
        return
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        slope = (scores[behind] - scores[edge]) / (values[behind] - values[edge])
        line = scores[edge] + slope * (values[:edge] - values[edge])
    if np.isfinite(line).all():
        scores[:edge] = line


def _distances(scores: np.ndarray) -> np.ndarray:
    """Return squared Mahalanobis distances [row] of normal scores [row, coordinate]."""
    bounded = np.clip(scores, -4, 4)  # one distant row does not widen the scale that it is measured by
    values, vectors = np.linalg.eigh(np.atleast_2d(bounded.T @ bounded / len(scores)))
    kept = values > _LEAST_VARIANCE * max(values.max(), _LEAST_VARIANCE)
    found: np.ndarray = ((scores @ vectors[:, kept]) ** 2 / values[kept]).sum(axis=1)
    return found


def _p_values(statistic: np.ndarray, degrees: int) -> np.ndarray:
    """Return the p-value of each row's statistic [row] among all of them, large ones being surprising.

    Beyond the largest few it is that of a chi-squared distribution, moved and scaled to the tail there.
    """
    count, order = len(statistic), np.sort(statistic)
    at_least = count - np.searchsorted(order, statistic, side="left")
    p: np.ndarray = at_least / count
    near, far = order[-_BEHIND * _IN_TAIL], order[-_IN_TAIL]
    low, high = stats.chi2.isf([_BEHIND * _IN_TAIL / count, _IN_TAIL / count], degrees)
    # A row that others equal is a lattice's: its rank is its p-value.
    alone = count - np.searchsorted(order, statistic, side="right") == at_least - 1
    beyond = (statistic > far) & alone
    if far > near:
        p[beyond] = stats.chi2.sf(high + (statistic[beyond] - far) * (high - low) / (far - near), degrees)
    return p


def _ranked(p: np.ndarray) -> np.ndarray:
    """Return the smaller one of two p-values as one: its rank among all rows [row], in proportion beyond."""
    count, order = len(p), np.sort(p)
    rank = np.searchsorted(order, p, side="right") / count
    edge = max(order[_IN_TAIL - 1], np.finfo(float).tiny)
    return np.where(p < edge, np.minimum(p * (_IN_TAIL / count) / edge, 1.0), rank)


def information_conflict(
    z: np.ndarray, weights: np.ndarray, ess: float, *, expected: float = 0.0, reason: str = ""
) -> Conflict:
    """Return the p-value of a posterior's pull against its prior; NaN where the draws have no moments.

    In whitened coordinates the prior is Normal(0, I). For a normal likelihood the posterior mean m with
    covariance C is, under the prior predictive, Normal(0, I - C), so m' (I - C)^-1 m is chi-squared. C must
    be the expected one: with the observed one a batch that says little, as three equal values do of an sd,
    seems to pull far. So `expected` replaces I - C where the observed one is smaller, and what the draws
    cannot distinguish from zero replaces both: the p-value is then too large and never too small. Such
    directions are a test of their own beside the others, by Bonferroni, so that many of them do not hide
    one pull. A posterior wider than the prior (a mixture that abandoned the prior) counts with variance 1.

    Parameters
    ----------
    z, weights
        Whitened posterior draws, array [draw, coordinate], and their weights [draw].
    ess
        Effective sample size of the weighted draws.
    expected
        The share of the posterior's information that such a batch brings on average: its rows over those
        counted with it.
    reason
        Why batches could not be simulated.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean = weights @ z
        covariance = np.atleast_2d((weights * (z - mean).T) @ (z - mean))
    if not z.shape[1] or not (np.isfinite(covariance).all() and np.isfinite(mean).all()):
        return Conflict(np.nan, reason=f"{reason}; the draws have no finite moments beside the belief")
    values, vectors = np.linalg.eigh(covariance)
    limit = min(5 * np.sqrt(2 / max(ess, 1.0)), 0.5)
    pull, variance = (vectors.T @ mean) ** 2, 1 - values
    resolved = variance > limit
    variance = np.where(resolved, variance, np.where(variance < -limit, 1.0, 2 * limit))
    variance = np.maximum(variance, expected)
    parts = [part for part in (resolved, ~resolved) if part.any()]
    with np.errstate(over="ignore"):
        found = [stats.chi2.sf((pull / variance)[part].sum(), int(part.sum())) for part in parts]
    return Conflict(float(min(1.0, len(parts) * min(found))), reason=reason)


def information_conflict_of_parts(
    prior: Mixture, u: np.ndarray, weights: np.ndarray, ess: float, *, reason: str = ""
) -> Conflict:
    """Return `information_conflict` with a belief that is a mixture.

    With p_k the p-value against part k, by the draws that came of it, and w_k its weight, s = sum_k w_k p_k
    is small where the batch is unlike all heavy parts. Given part k, w_k p_k is at most s, and uniform up to
    w_k; so sum_k min(s, w_k) is a p-value: exact where the parts predict different batches, and otherwise too
    large. A part that the batch left without draws is as if rejected.

    Parameters
    ----------
    prior
        The belief before the batch.
    u, weights, ess
        Posterior draws [draw, coordinate], their weights [draw], and their effective sample size.
    reason
        Why batches could not be simulated.
    """
    part_of = prior.by_part(u).argmax(axis=0)
    p = np.zeros(len(prior.parts))
    for number, part in enumerate(prior.parts):
        here = part_of == number
        if here.sum() > 2 * part.size + 2:
            share = weights[here] / weights[here].sum()
            of_part = information_conflict(part.inverse(u[here])[0], share, ess * here.mean(), reason=reason)
            if not np.isfinite(of_part.p):
                return of_part
            p[number] = of_part.p
    least = prior.weights @ p
    return Conflict(float(np.minimum(least, prior.weights).sum()), reason=reason)
