"""Quality of a match: the matched map compared with the posterior that it was matched to."""

from __future__ import annotations

import numpy as np
from scipy.stats import wasserstein_distance

from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.diagnostics.importance import Importance
from lindley.prior.matching import moments
from lindley.prior.mixture import Map

#: Draws of the map that are compared with the posterior's: at most, and for each of those.
_SAMPLE, _FOR_EACH = 20_000, 4


def match_doubts(
    importance: Importance | None, distances: np.ndarray, moment: float, thresholds: Thresholds
) -> tuple[str, ...]:
    """Return why a match is not trusted as a prior; empty where it is.

    Parameters
    ----------
    importance
        Importance sampling of the posterior by the map; None where it does not assess the carried draws
        (local variables or state) or the posterior cannot be evaluated (a trace from elsewhere). The
        distances and the moment then decide.
    distances, moment
        See `match_distances`.
    thresholds
        Their limits.
    """
    found, limit = [], thresholds.distance_trust
    if importance is not None and importance.efficiency < thresholds.efficiency_trust:
        found.append(
            f"efficiency {importance.efficiency:.2f} of the matched prior, "
            f"below {thresholds.efficiency_trust} (k-hat {importance.k_hat:.2f})"
        )
    distance = float(distances.max(initial=0.0))
    if not distance <= limit:
        found.append(f"margin of the matched prior off by {distance:.3f} sds, above {limit}")
    elif importance is None and not moment <= thresholds.moment_trust:
        found.append(
            f"shape of the matched prior: third moment {moment:.2f} of the whitened draws, "
            f"above {thresholds.moment_trust}"
        )
    return tuple(found)


def match_distances(
    draws: np.ndarray, weights: np.ndarray, matched: Map, rng: np.random.Generator
) -> tuple[np.ndarray, float]:
    """Return how far the map is from the draws, per coordinate in sds, and in shape.

    Parameters
    ----------
    draws, weights
        Array [draw, coordinate] of the carried draws, and array [draw] of their weights.
    matched, rng
        The map matched to them, and the source of its draws.

    Returns
    -------
    tuple
        Array [coordinate] of Wasserstein-1 distances between the posterior's margins and the map's, in sds;
        and the largest third moment, or excess kurtosis / 4, of the draws whitened by the map: the error
        that the margins do not show. Both are 0 where the map is the posterior, and infinite where draws
        or map do not move or are not finite.
    """
    share = np.maximum(np.nan_to_num(weights), 0.0)
    share = share / share.sum() if share.any() else np.full(len(draws), 1 / len(draws))
    with np.errstate(all="ignore"):
        sample, spread = matched.sample(rng, min(_SAMPLE, _FOR_EACH * len(draws))), draws.std(axis=0)
        usable = (spread > 0) & np.isfinite(spread) & np.isfinite(sample).all(axis=0)
        margins = np.full(len(spread), np.inf)
        for i in np.flatnonzero(usable):
            margins[i] = wasserstein_distance(draws[:, i], sample[:, i], u_weights=share) / spread[i]
        moment = max(moments(matched.inverse(draws)[0], share))
    return np.nan_to_num(margins, nan=np.inf, posinf=np.inf), moment if np.isfinite(moment) else np.inf
