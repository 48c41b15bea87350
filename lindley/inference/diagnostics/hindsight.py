"""How much earlier matched priors shifted a fit: importance weights from the earlier batches' likelihood.

A fit starts from a map q that was matched to the posterior p of earlier batches. That posterior is known up
to a constant: p(u) = q'(u) L'(u), with q' the map that the earlier fit itself started from and L' the
likelihood of its batches; q' in turn approximates q'' L'', and so on. At the draws of the new posterior the
ratio of the exact densities to the map that was used,

    q_D(u) L_1(u) ... L_D(u) / q_0(u),

is the importance weight of each draw. Where it is constant the matches caused no error; otherwise the
weighted moments estimate by how much they moved the result, in the region where the new posterior lies and
not where the old ones lay: a match that caused no error at first may cause one after later batches. No
sampling is needed, only the earlier batches' likelihood at some of the draws.

A weighted mean lies within the draws, so that a large shift is understated. Where the weights leave too few
of them, the shift is also extrapolated: a quadratic fitted to the log ratio gives the normal that the
posterior would be without the matches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from lindley.inference.diagnostics.gate import SATURATED
from lindley.prior.belief import Audited, Belief, Harm

#: Draws at which the ratio is evaluated: the error of the shift is the ratio's spread over their root.
_DRAWS = 2000
#: Columns of the quadratic at most, per draw; above it the quadratic has no mixed terms.
_MOST_COLUMNS = 0.2
#: Largest eigenvalue of the quadratic, in units of the posterior's precision: the extrapolated sd is at most
#: the root of ten times as large.
_CURVATURE = 0.9
#: Relative standard error that an extrapolated shift is given. In streams whose rate jumps to ten times its
#: value it was two thirds of the truth, at distances of 4 to 20 sds.
_UNSURE = 0.5
#: Logarithm of the smallest ratio of sds in which a shift is expressed: weights on one draw have no sd.
_NARROWEST = 2.0
#: Largest shift that is stated; what is farther has no meaning as a number of sds.
FARTHEST = 1000.0


@dataclass(frozen=True)
class Shift:
    """How much matches shifted a posterior.

    Parameters
    ----------
    mean, log_sd
        Arrays [value]: by how much means would be larger without the matches, in sds of the posterior or of
        what it would then be, whichever is smaller; and the logarithm of the ratio of these sds.
    mean_error, log_sd_error
        Their Monte Carlo standard errors.
    efficiency
        1 / (n sum w^2) of the ratio's weights.
    """

    mean: np.ndarray
    log_sd: np.ndarray
    mean_error: np.ndarray
    log_sd_error: np.ndarray
    efficiency: float

    @property
    def largest(self) -> float:
        """The largest difference of a mean or of the logarithm of an sd."""
        return float(max(np.abs(self.mean).max(initial=0.0), np.abs(self.log_sd).max(initial=0.0)))

    @property
    def saturated(self) -> bool:
        """Whether the weights leave too few draws: the shift is then a lower bound or an extrapolation."""
        return self.efficiency < SATURATED

    def without(self, other: Shift) -> Shift:
        """Return what is left of this shift without that of some of its matches."""
        mean, log_sd = self.mean - other.mean, self.log_sd - other.log_sd
        return Shift(mean, log_sd, self.mean_error, self.log_sd_error, min(self.efficiency, other.efficiency))


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """The beliefs and matches behind a fit; an imported trace has none.

    Parameters
    ----------
    start
        The belief that the fit started from, widened by forgetting; None for genesis.
    before
        The belief before the newest batch; None where there is none, or where it is unknown.
    evidence_before
        Log evidence of the batches before the newest one under `start`; None where it is unknown.
    view
        What hindsight saw of the matches behind the fit; None where they cannot be assessed, or where there
        are none.
    unmeasured
        Why hindsight could not measure what the match did that the fit started from; empty where it could,
        or where no error is defined.
    audited
        What the newest pooled refit measured of such matches along the chain; None where none did.
    replayed
        Number of batches before the newest one that were fitted again.
    """

    start: Belief | None = None
    before: Belief | None = None
    evidence_before: float | None = None
    view: View | None = None
    unmeasured: str = ""
    audited: Audited | None = None
    replayed: int = 0

    @property
    def matches(self) -> int:
        """Number of matches behind the fit, since the last pooled fit, whose harm could not be measured."""
        return self.start.unmeasured + bool(self.unmeasured) if self.start is not None else 0


@dataclass(frozen=True)
class View:
    """What hindsight saw from a posterior.

    Parameters
    ----------
    shift
        By how much the matches in sight moved the posterior together.
    moved
        By how much all matches behind it did that can be followed, those out of sight included.
    sight
        Number of these matches that the next fit looks back on too.
    unseen
        Harm of the others.
    """

    shift: Shift
    moved: Shift
    sight: int
    unseen: Harm

    @property
    def drift(self) -> float:
        """The largest difference of a mean, in sds, or of the log of an sd, by all matches behind it."""
        return self.moved.largest + self.unseen.rest


def chosen(count: int) -> np.ndarray:
    """Return the places of the draws at which the ratio is evaluated, of so many."""
    return np.linspace(0, count - 1, min(_DRAWS, count)).astype(int)


def shift(points: np.ndarray, values: np.ndarray, log_ratio: np.ndarray) -> Shift:
    """Return how much matches shifted a posterior that started from them.

    Parameters
    ----------
    points
        Draws of the posterior, array [draw, coordinate].
    values
        Quantities whose shift is measured, at these draws: coordinates, natural-scale values; array
        [draw, value].
    log_ratio
        Array [draw]: log density of what the matches approximate minus that of the matches, up to a constant.
    """
    log_ratio = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    if not np.isfinite(log_ratio).any():
        far = np.full(values.shape[1], FARTHEST)
        return Shift(far, far, np.zeros_like(far), np.zeros_like(far), 0.0)
    usable, known = _usable(points), _usable(values)
    if not (usable.all() and known.all()):
        # What is not finite has moved without limit; the others are measured without it.
        found = shift(np.where(usable, points, 0.0), np.where(known, values, 0.0), log_ratio)
        return replace(found, mean=np.where(known, found.mean, FARTHEST))
    sd = values.std(axis=0)
    weights = np.exp(log_ratio - logsumexp(log_ratio))
    count = len(weights)
    z = (values - values.mean(axis=0)) / np.where(sd > 0, sd, 1.0)
    moved = weights @ z
    spread = np.sqrt(np.maximum(weights @ (z - moved) ** 2, 0.0))
    log_sd = np.where(sd > 0, np.log(np.maximum(spread, 1e-300)), 0.0)
    efficiency = float(1 / (count * (weights**2).sum()))
    # What each draw adds to the difference, left out of the weights: both sides are of the same draws.
    own, square = (weights / np.maximum(1 - weights, 1e-3))[:, None], 0.5 * (z**2 - (sd > 0)) / count
    around = 0.5 * ((z - moved) ** 2 / np.maximum(spread, 1e-9) ** 2 - 1)
    errors = [
        np.sqrt(((own * part - base) ** 2).sum(axis=0)) * (sd > 0)
        for part, base in ((z - moved, z / count + moved * square), (around, square))
    ]
    if efficiency < SATURATED:
        # The sd of weights on few draws means nothing.
        far_mean, log_sd = _extrapolated(points, z, np.maximum(log_ratio, log_ratio.max() - 1e6))
        moved = np.where(np.abs(moved) >= np.abs(far_mean), moved, far_mean)
        errors = [_UNSURE * np.abs(part) for part in (moved, log_sd)]
    # In sds of whichever is the narrower: the posterior, or what it would be without the matches.
    narrower = np.exp(np.clip(log_sd, -_NARROWEST, 0.0))
    moved, log_sd = (np.clip(part, -FARTHEST, FARTHEST) for part in (moved / narrower, log_sd))
    mean_error, log_sd_error = (np.minimum(error, FARTHEST) for error in (errors[0] / narrower, errors[1]))
    return Shift(moved, log_sd, mean_error, log_sd_error, efficiency)


def _usable(values: np.ndarray) -> np.ndarray:
    """Whether values [draw, value] have a finite sd [value]."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.isfinite(values.std(axis=0))


def _extrapolated(points: np.ndarray, z: np.ndarray, log_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return shift and change of log sd of standardised values by a quadratic fitted to the log ratio.

    For a normal posterior and a quadratic ratio they are exact at any distance.
    """
    count, size = points.shape
    centred = points - points.mean(axis=0)
    # Whitened by the principal axes: constant and collinear directions drop out.
    axes, scale, _ = np.linalg.svd(centred, full_matrices=False)
    keep = scale > 1e-9 * max(scale.max(initial=0.0), 1e-300)
    x = axes[:, keep] * np.sqrt(count)
    size = x.shape[1]
    first, second = np.triu_indices(size)
    if 1 + size + len(first) > _MOST_COLUMNS * count:
        first = second = np.arange(size)
    design = np.column_stack([np.ones(count), x, x[:, first] * x[:, second]])
    found = np.linalg.lstsq(design, log_ratio, rcond=None)[0]
    slope, curvature = found[1 : 1 + size], np.zeros((size, size))
    np.add.at(curvature, (first, second), found[1 + size :])
    curvature = curvature + curvature.T
    values, vectors = np.linalg.eigh(curvature)
    covariance = (vectors / (1 - np.minimum(values, _CURVATURE))) @ vectors.T
    # Values follow the coordinates to first order; what they have of their own stays.
    loading = z.T @ x / count
    own = np.maximum(1 - (loading**2).sum(axis=1), 0.0)
    variance = np.einsum("vi,ij,vj->v", loading, covariance, loading) + own
    known = z.std(axis=0) > 0
    return loading @ covariance @ slope, np.where(known, 0.5 * np.log(np.maximum(variance, 1e-300)), 0.0)


def to_undo(moved: Callable[[int], Shift], counts: int, holds: Callable[[int], bool], limit: float) -> int:
    """Decide how many segments are fitted again.

    Parameters
    ----------
    moved
        Returns the shift that the matches from the m-th on, newest first, caused together.
    counts
        Number of segments in sight.
    holds
        Whether so many of them, newest first, may be fitted again.
    limit
        Largest shift that is accepted, in sds.

    Returns
    -------
    int
        The smallest number of segments without which the rest is within the limit, or as many as there is
        room for where that at least reduces the shift.
    """
    whole = moved(0).largest if counts else 0.0
    if whole <= limit:
        return 0
    best = 0
    for m in range(1, counts + 1):
        if not holds(m):
            break
        rest = moved(m).largest if m < counts else 0.0
        if rest <= limit:
            return m
        if rest < whole:
            best = m
    return best


def kept_in_sight(rows: Sequence[int], most: int) -> int:
    """Return how many segments, newest first, stay in sight of the next fit.

    All, while there are no more than `most` rows in them; otherwise as many as have half of that: a segment
    leaves once, with its harm measured, and not one with each fit. The newest always stays.
    """
    total = np.cumsum(rows)
    if not len(total) or total[-1] <= most:
        return len(total)
    return max(1, int((total <= most // 2).sum()))


def view(
    points: np.ndarray,
    values: np.ndarray,
    ratios: np.ndarray,
    names: Sequence[str],
    start: Belief,
    kept: int,
) -> View:
    """Return what hindsight sees from a posterior, and what the next fit need not look at.

    Parameters
    ----------
    points, values
        See `shift`; the first values are the coordinates.
    ratios
        Array [segment, draw] of log ratios by match in sight, newest first.
    names
        Names of the coordinates.
    start
        The belief that the fit started from.
    kept
        How many of these matches stay in sight.
    """
    seen = shift(points, values, ratios.sum(axis=0))
    before = carried_on(start, names, points)
    moved = _with_unseen(seen, before, points, values)
    leaving = None
    if kept < len(ratios):
        leaving = seen.without(shift(points, values, ratios[:kept].sum(axis=0)))
    mean, log_sd = before
    if leaving is not None:
        mean, log_sd = mean + leaving.mean[: len(names)], log_sd + leaving.log_sd[: len(names)]
    return View(seen, moved, kept, _harm(names, mean, log_sd, start.unseen.rest))


def _harm(names: Sequence[str], mean: np.ndarray, log_sd: np.ndarray, rest: float) -> Harm:
    if not mean.any() and not log_sd.any():
        return Harm(rest=rest)
    by_name = [dict(zip(names, part.tolist(), strict=True)) for part in (mean, log_sd)]
    return Harm(mean=by_name[0], log_sd=by_name[1], rest=rest)


def _with_unseen(
    seen: Shift, unseen: tuple[np.ndarray, np.ndarray], points: np.ndarray, values: np.ndarray
) -> Shift:
    """Return a shift with that of matches out of sight; other values follow the coordinates linearly."""
    mean, log_sd = unseen
    size = points.shape[1]
    if not mean.any() and not log_sd.any():
        return seen
    z, v = _standard(points), _standard(values[:, size:])
    slopes = np.linalg.lstsq(z, v, rcond=None)[0] if v.size else np.zeros((size, 0))
    rest = np.full(values.shape[1] - size, np.abs(log_sd).max(initial=0.0))
    further = np.sign(seen.log_sd[size:]) * rest
    further = np.where(further == 0, rest, further)
    return Shift(
        np.clip(seen.mean + np.concatenate([mean, mean @ slopes]), -FARTHEST, FARTHEST),
        seen.log_sd + np.concatenate([log_sd, further]),
        seen.mean_error,
        seen.log_sd_error,
        seen.efficiency,
    )


def _standard(values: np.ndarray) -> np.ndarray:
    sd = values.std(axis=0)
    return (values - values.mean(axis=0)) / np.where(sd > 0, sd, 1.0)


def carried_on(start: Belief, names: Sequence[str], points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the harm of matches out of sight of a belief, in the posterior that started from it.

    An error d of a prior's mean moves the posterior's by S P d, with P the prior's precision and S the
    posterior's covariance: it is worth less where the data have narrowed the belief. An error of its
    precision moves the mean too where the belief has moved, and falls with the square of the sds. Both are
    exact for normals; the second is taken margin by margin.

    Returns
    -------
    tuple
        Arrays [coordinate] as in `Harm`, zero where nothing is out of sight.
    """
    harm, count = start.unseen, len(names)
    if not harm.mean and not harm.log_sd:
        return np.zeros(count), np.zeros(count)
    own = start.matched.coordinates.names
    where = [names.index(name) for name in own]
    draws = start.matched.map.sample(np.random.default_rng(0), 4 * _DRAWS)
    before, sd = draws.mean(axis=0), draws.std(axis=0)
    mean, log_sd = (np.array([part.get(name, 0.0) for name in own]) for part in (harm.mean, harm.log_sd))
    after = points.std(axis=0)
    ratio = after[where] / np.where(sd > 0, sd, 1.0)
    covariance = np.atleast_2d(np.cov(points, rowvar=False))[:, where]
    precision = np.linalg.pinv(np.atleast_2d(np.cov(draws, rowvar=False)), hermitian=True)
    moved = covariance @ (precision @ (mean * sd))
    moved[where] += 2 * log_sd * ratio**2 * (points.mean(axis=0)[where] - before)
    changed = np.zeros(count)
    changed[where] = log_sd * ratio**2
    return moved / np.where(after > 0, after, 1.0), changed
