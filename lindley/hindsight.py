"""What the match that a fit started from did to it, seen with the data that the match stood for.

A fit starts from a map q that was matched to the posterior p of earlier batches. That posterior is known up
to a constant: p(u) = q'(u) L'(u), with q' the map that the earlier fit itself started from and L' the
likelihood of its batches. At the draws of the new posterior the ratio p/q is what each draw should count
for. Where it is constant the match did no harm; otherwise the weighted moments say by how much it moved
the result, in the region where the new posterior lies and not where the old one lay. No sampling is
needed, only the earlier batches' likelihood at some of the draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from lindley.batch import Batch
from lindley.belief import Belief
from lindley.transport import TriangularMap

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
        Log density of what `used` was matched to, up to a constant, at points [point, coordinate].
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
