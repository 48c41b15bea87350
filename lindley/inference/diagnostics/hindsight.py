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
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from scipy.special import logsumexp

from lindley.prior.belief import Belief
from lindley.prior.triangular import TriangularMap

#: Draws at which the ratio is evaluated: the error of the shift is the ratio's spread over their root.
_DRAWS = 2000


@dataclass(frozen=True)
class Shift:
    """How much a match shifted a posterior.

    Parameters
    ----------
    mean
        Largest difference of a mean from its value without the match, in sds.
    log_sd
        Largest difference of the logarithm of an sd from its value without the match.
    efficiency
        1 / (n sum w^2) of the ratio's weights.
    """

    mean: float
    log_sd: float
    efficiency: float

    @property
    def largest(self) -> float:
        """The larger one of both differences."""
        return max(self.mean, self.log_sd)


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
    shift
        How much the matches behind the fit moved it, as far back as hindsight reaches; None where that
        cannot be assessed.
    oldest
        The belief where hindsight ends; None for genesis.
    replayed
        Number of batches before the newest one that were fitted again.
    """

    start: Belief | None = None
    before: Belief | None = None
    evidence_before: float | None = None
    shift: Shift | None = None
    oldest: Belief | None = None
    replayed: int = 0


def shift(
    draws: np.ndarray,
    values: np.ndarray,
    used: TriangularMap,
    exact: Callable[[np.ndarray], np.ndarray],
) -> Shift:
    """Return how much the match `used` shifted a posterior that started from it.

    Parameters
    ----------
    draws
        Draws of the posterior, array [draw, coordinate].
    values
        Quantities whose shift is measured, at these draws: coordinates, natural-scale values; array
        [draw, value].
    used
        The map that the fit started from.
    exact
        Log density of the posterior that `used` was matched to, up to a constant, at points
        [point, coordinate].
    """
    which = np.linspace(0, len(draws) - 1, min(_DRAWS, len(draws))).astype(int)
    chosen = draws[which]
    log_ratio = exact(chosen) - used.log_density(chosen)
    log_ratio = np.where(np.isfinite(log_ratio), log_ratio, -np.inf)
    if not np.isfinite(log_ratio).any():
        return Shift(np.inf, np.inf, 0.0)
    weights = np.exp(log_ratio - logsumexp(log_ratio))
    seen = values[which]
    mean, sd = seen.mean(axis=0), seen.std(axis=0)
    seen, mean, sd = seen[:, sd > 0], mean[sd > 0], sd[sd > 0]
    moved = weights @ seen
    spread = np.sqrt(weights @ (seen - moved) ** 2)
    return Shift(
        mean=float((np.abs(moved - mean) / sd).max()),
        log_sd=float(np.abs(np.log(np.maximum(spread, 1e-300) / sd)).max()),
        efficiency=float(1 / (len(chosen) * (weights**2).sum())),
    )


def in_sight(counts: Sequence[int], window: int) -> int:
    """Return how many segments with these batch counts, newest first, hindsight looks back on.

    The newest always; further ones while there are no more than `window` batches in all.
    """
    within = sum(total <= window for total in accumulate(counts))
    return max(within, min(len(counts), 1))


def to_undo(
    moved: Callable[[int], Shift | None], counts: Sequence[int], room: int, limit: float
) -> tuple[int, Shift | None]:
    """Decide how many segments are fitted again.

    Parameters
    ----------
    moved
        Returns the shift that the matches from the m-th on, newest first, caused together; None where it
        cannot be assessed.
    counts
        Batches of each segment in sight, newest first.
    room
        Batches that may be fitted again.
    limit
        Largest shift that is accepted, in sds.

    Returns
    -------
    tuple
        The smallest number of segments without which the rest is within the limit, or as many as there is
        room for where that at least reduces the shift; and the shift of all.
    """
    whole = moved(0) if counts else None
    if whole is None or whole.largest <= limit:
        return 0, whole
    best = 0
    for m in range(1, len(counts) + 1):
        if sum(counts[:m]) > room:
            break
        rest = moved(m) if m < len(counts) else Shift(0.0, 0.0, 1.0)
        if rest is None or rest.largest <= limit:
            return m, whole
        if rest.largest < whole.largest:
            best = m
    return best, whole


def drift(lineage: Lineage, names: Sequence[str], points: np.ndarray) -> float:
    """Return by how many sds the matches behind a fit moved it, as far back as hindsight reaches.

    A shift of the prior is worth less where the data have narrowed the belief since: in units of its sd
    it falls with the ratio of the sds.

    Parameters
    ----------
    names, points
        Names of the coordinates, and the fit's draws [chain, draw, coordinate] of them.
    """
    oldest = lineage.oldest
    seen = lineage.shift.largest if lineage.shift is not None else 0.0
    if oldest is None:
        return seen
    before = oldest.matched.map.sample(np.random.default_rng(0), 1000).std(axis=0)
    where = [names.index(name) for name in oldest.matched.coordinates.names]
    after = points.reshape(-1, points.shape[-1])[:, where].std(axis=0)
    narrowed = float(min((after / before).max(), 1.0))
    return oldest.drift * narrowed + seen
