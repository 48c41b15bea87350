"""What the matches behind a fit did to it, seen with the data that they stood for.

A fit starts from a map q that was matched to the posterior p of earlier batches. That posterior is known up
to a constant: p(u) = q'(u) L'(u), with q' the map that the earlier fit itself started from and L' the
likelihood of its batches; q' again stands for q'' L'', and so on. At the draws of the new posterior the
ratio of what the maps stood for to the map that was used,

    q_D(u) L_1(u) ... L_D(u) / q_0(u),

is what each draw should count for. Where it is constant the matches did no harm; otherwise the weighted
moments say by how much they moved the result, in the region where the new posterior lies and not where the
old ones lay: a match that did no harm at first may do some after later batches. No sampling is needed, only
the earlier batches' likelihood at some of the draws.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from lindley.batch.batch import Batch
from lindley.prior.belief import Belief
from lindley.prior.triangular import TriangularMap

#: Draws at which the ratio is evaluated: the error of the shift is the ratio's spread over its root.
_DRAWS = 2000


@dataclass(frozen=True)
class Segment:
    """How a belief came about: what its fit started from, and the batches that it was fitted on.

    Parameters
    ----------
    start
        Gives the belief that the fit started from; None for genesis.
    batches
        Gives its batches, oldest first.
    count
        How many there are.
    """

    start: Callable[[], Belief | None]
    batches: Callable[[], tuple[Batch, ...]]
    count: int


@dataclass(frozen=True)
class Shift:
    """What a match did to a posterior.

    Parameters
    ----------
    mean
        Largest difference of a mean from what it would have been, in sds.
    log_sd
        Largest difference of the logarithm of an sd.
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


def shift(
    draws: np.ndarray,
    values: np.ndarray,
    used: TriangularMap,
    exact: Callable[[np.ndarray], np.ndarray],
) -> Shift:
    """Return what the match `used` did to a posterior that started from it.

    Parameters
    ----------
    draws
        Draws of the posterior, array [draw, coordinate].
    values
        What the shift is judged by at these draws: coordinates, natural-scale values; array [draw, value].
    used
        The map that the fit started from.
    exact
        Log density of what `used` stood for, up to a constant, at points [point, coordinate].
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
    """Return how many segments of so many batches each, newest first, are looked back on.

    The newest always is; further ones as long as there are no more than `window` batches in all.
    """
    seen = total = 0
    for count in counts:
        total += count
        if seen and total > window:
            break
        seen += 1
    return seen


def to_undo(
    moved: Callable[[int], Shift | None], counts: Sequence[int], room: int, limit: float
) -> tuple[int, Shift | None]:
    """Decide how many segments are fitted again.

    Parameters
    ----------
    moved
        Gives what the matches from the m-th on, newest first, did together; None where it cannot be seen.
    counts
        Batches of each segment in sight, newest first.
    room
        Batches that may be fitted again.
    limit
        Largest shift that is let stand, in sds.

    Returns
    -------
    tuple
        The fewest segments without which the rest is within the limit, or as many as there is room for
        where that at least makes it better; and the shift of all.
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
