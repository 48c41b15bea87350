"""How good a match is: the map that passes on, held against the posterior it was matched to."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.stats import wasserstein_distance

from lindley.inference.diagnostics import Importance, Thresholds
from lindley.prior.matching import moments
from lindley.prior.triangular import TriangularMap

#: Draws of the map that are held against the posterior's.
_SAMPLE = 20_000


@dataclass(frozen=True)
class Quality:
    """Quality of a match.

    Parameters
    ----------
    importance
        Importance sampling of the posterior by the map; None where the posterior cannot be evaluated (a
        trace that was sampled elsewhere).
    judged
        Whether that is about what passes on: with local variables or state it is not, and without it
        nothing is. The distances then decide alone.
    distances
        Array [coordinate]: Wasserstein-1 distance between the posterior's margin and the map's, in sds.
    moment
        Largest third moment, or excess kurtosis / 4, of the draws whitened by the map: what the margins
        do not show. 0 where the map is the posterior.
    """

    importance: Importance | None
    judged: bool
    distances: np.ndarray
    moment: float

    def doubts(self, thresholds: Thresholds) -> tuple[str, ...]:
        """Return why the match is not to be trusted as a prior; empty where it is."""
        found = []
        seen = self.importance if self.judged else None
        if seen is not None and seen.efficiency < thresholds.efficiency_trust:
            found.append(
                f"efficiency {seen.efficiency:.2f} of the matched prior, "
                f"below {thresholds.efficiency_trust} (k-hat {seen.k_hat:.2f})"
            )
        distance = float(self.distances.max(initial=0.0))
        limit = thresholds.distance_trust
        if not distance <= limit:
            found.append(f"margin of the matched prior off by {distance:.3f} sds, above {limit}")
        elif not self.judged and not self.moment <= thresholds.moment_trust:
            found.append(
                f"shape of the matched prior: third moment {self.moment:.2f} of the whitened draws, "
                f"above {thresholds.moment_trust}"
            )
        return tuple(found)


def match_distances(
    draws: np.ndarray, weights: np.ndarray, matched: TriangularMap, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Return how far the map is from the draws, per coordinate in sds, and in shape.

    Parameters
    ----------
    draws
        Array [draw, coordinate] of what passes on.
    weights
        Array [draw].
    matched
        The map matched to them.
    rng
        Source of the map's draws.

    Returns
    -------
    tuple
        Array [coordinate] of Wasserstein-1 distances, and the largest third moment of the whitened draws.
    """
    share = np.maximum(weights, 0.0)
    share = share / share.sum()
    sample = matched.sample(rng, _SAMPLE)
    scale = draws.std(axis=0)
    margins = np.array(
        [
            wasserstein_distance(draws[:, i], sample[:, i], u_weights=share) / scale[i]
            for i in range(draws.shape[1])
        ]
    )
    return margins, max(moments(matched.inverse(draws)[0], share))
