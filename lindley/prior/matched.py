"""The matched prior: a distribution in coordinates with the posterior's joint shape."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lindley.errors import FitFailed
from lindley.model.coordinates import Coordinates
from lindley.prior.matching import MIXTURE, NORMAL, SINH_ARCSINH, TRIANGULAR, match_like, match_map
from lindley.prior.mixture import Map, Mixture, named_arrays
from lindley.prior.stein import CalibratedWeights, equal_weights
from lindley.prior.triangular import TriangularMap

#: Draws from which the moments of a map that is not normal are computed.
_MOMENT_DRAWS = 4000


@dataclass(frozen=True)
class MatchedPrior:
    """A distribution over the coordinates of a model's carried variables.

    Parameters
    ----------
    coordinates
        Variable, dims and labels of each coordinate.
    map
        The map from whitened points to coordinates, or a mixture of several.
    reason
        Why it is of its family.
    moments
        How its moments were estimated: ``draws``, ``stein 1`` to ``stein 3`` (calibrated draws, see
        `lindley.prior.stein`), ``information`` (see `lindley.prior.information`), ``population`` (other
        members' beliefs, see `lindley.inference.members.population`).
    shrinkage
        How far correlations were shrunk to zero, 0 to 1.
    """

    coordinates: Coordinates
    map: Map
    reason: str = ""
    moments: str = "draws"
    shrinkage: float = 0.0

    @property
    def family(self) -> str:
        """``normal``, ``sinh-arcsinh``, ``triangular`` or ``mixture``."""
        if isinstance(self.map, Mixture):
            return MIXTURE
        if self.map.triangular:
            return TRIANGULAR
        return SINH_ARCSINH if self.map.warped else NORMAL

    @property
    def components(self) -> tuple[tuple[float, MatchedPrior], ...]:
        """The distributions that this one is a mixture of, each behind its weight; itself if it is none."""
        if not isinstance(self.map, Mixture):
            return ((1.0, self),)
        weights = self.map.weights.tolist()
        return tuple((w, replace(self, map=part)) for w, part in zip(weights, self.map.parts, strict=True))

    @property
    def first(self) -> TriangularMap:
        """The map; of a mixture, that of its first part."""
        return self.map.parts[0] if isinstance(self.map, Mixture) else self.map

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the map's arrays by name; see `lindley.prior.mixture.named_arrays`."""
        return named_arrays(self.map)

    @property
    def digest(self) -> str:
        """Sha256 over coordinates, family and named arrays."""
        sha = hashlib.sha256(b"lindley-matched-prior/1\n")
        sha.update("\n".join([self.family, *self.coordinates.names]).encode())
        for block in self.coordinates.blocks:
            sha.update(f"\n{block.name}:{block.transform}".encode())
        for name, array in self.arrays().items():
            # A single map without warped margins has the digest of its other arrays.
            if name != "margins" or (isinstance(self.map, TriangularMap) and self.map.warped):
                sha.update(array_bytes(name, array))
        return sha.hexdigest()

    def ordered(self, coordinates: Coordinates) -> MatchedPrior:
        """Return the same distribution with its coordinates in another order, matched by name."""
        names = self.coordinates.names
        index = np.array([names.index(name) for name in coordinates.names], dtype=int)
        if np.array_equal(index, np.arange(index.size)):
            return replace(self, coordinates=coordinates)
        return replace(self, coordinates=coordinates, map=self.map.permuted(index))

    def condition(self) -> float:
        """Return the condition number of the correlation matrix of the coordinates, in the map's middle.

        The largest one of the parts of a mixture.
        """
        found = []
        for part in self.map.parts if isinstance(self.map, Mixture) else (self.map,):
            slope = part.jacobian(np.zeros(part.size))
            found.append(np.linalg.cond(slope / np.linalg.norm(slope, axis=1, keepdims=True)) ** 2)
        return float(max(found))

    def as_joint_normal(self) -> MatchedPrior:
        """Return the joint normal with the distribution's mean and covariance, computed from its draws."""
        if isinstance(self.map, TriangularMap) and self.map.normal:
            return self
        points = self.map.sample(np.random.default_rng(0), _MOMENT_DRAWS)
        equal = np.full(len(points), 1 / len(points))
        return replace(self, map=match_like(points, equal, None, 0.0, self.coordinates.names))

    def widened(self, factors: np.ndarray) -> MatchedPrior:
        """Return the distribution stretched about its middle, by a factor for each [coordinate]."""
        return replace(self, map=self.map.stretched(factors))


def match(
    draws: np.ndarray,
    coordinates: Coordinates,
    *,
    calibration: CalibratedWeights | None = None,
    halves: tuple[CalibratedWeights, CalibratedWeights] | None = None,
    ess: float | None = None,
    state: frozenset[str] = frozenset(),
    family: str = "auto",
) -> MatchedPrior:
    """Match a prior to posterior draws.

    Parameters
    ----------
    draws
        Array [draw, coordinate] in unconstrained space, chain after chain.
    coordinates
        Variable, dims and labels of each coordinate.
    calibration, halves, ess
        As in `lindley.prior.matching.match_map`.
    state
        Names of variables that hold carried state: a triangular map takes them last.
    family
        ``auto``, or the family that the policy asks for. ``information`` is matched as ``normal`` here: there
        is no normal prior to add information to.

    Returns
    -------
    MatchedPrior
        With the draws' mean and whole covariance, and more of their shape where that pays; see
        `lindley.prior.matching.match_map`.

    Raises
    ------
    FitFailed
        If there are too few draws for the dimension, or they are not finite.
    """
    count, size = draws.shape
    if not np.isfinite(draws).all():
        bad = [coordinates.names[i] for i in np.flatnonzero(~np.isfinite(draws).all(axis=0))]
        raise FitFailed(
            "The posterior cannot be matched: its draws are not all finite",
            found=f"infinite or missing values in {', '.join(bad[:5])}",
            todo="check the support of these variables: a carried quantity must stay inside it",
        )
    if count < 2 * size + 2:
        raise FitFailed(
            "The posterior cannot be matched: too few draws for its dimension",
            expected=f"more than {2 * size + 2} draws for {size} coordinates",
            found=f"{count}",
            todo="ask for more draws",
        )
    calibration, note = calibration or equal_weights(count), ""
    if family == "information":
        family, note = NORMAL, "; no normal prior to add information to"
    elif family == MIXTURE:
        family, note = NORMAL, "; one for each separated mode"
    last = np.array([block.name in state for block in coordinates.blocks for _ in range(block.size)])
    found = match_map(
        draws,
        coordinates.names,
        calibration=calibration,
        halves=halves,
        ess=ess,
        last=last,
        family=family,
    )
    moments = f"stein {calibration.order}" if calibration.order else "draws"
    return MatchedPrior(coordinates, found.map, found.reason + note, moments, found.shrinkage)


def mixed(parts: Sequence[MatchedPrior], weights: np.ndarray) -> MatchedPrior:
    """Return the mixture of the matched priors of several modes, with weights [mode] that sum to one."""
    maps = tuple(part.map for part in parts if isinstance(part.map, TriangularMap))
    of_modes = "; ".join(
        f"{weight:.3f} {part.family} ({part.reason})" for weight, part in zip(weights, parts, strict=True)
    )
    moments = " ".join(dict.fromkeys(part.moments for part in parts))
    shrinkage = max(part.shrinkage for part in parts)
    reason = f"{len(parts)} separated modes: {of_modes}"
    return replace(parts[0], map=Mixture(weights, maps), reason=reason, moments=moments, shrinkage=shrinkage)


def rematch(draws: np.ndarray, weights: np.ndarray, like: MatchedPrior) -> MatchedPrior:
    """Match a prior of the family and order of `like` to draws [draw, coordinate] with weights [draw].

    The choice of the family is recorded with its reason; the match of that family to the draws is what a
    verifier recomputes. See `rematch_modes` for a mixture.
    """
    if isinstance(like.map, Mixture):
        raise ValueError("a mixture is matched to the draws of each mode")
    again = match_like(draws, weights, like.map, like.shrinkage, like.coordinates.names)
    return replace(like, map=again)


def rematch_modes(
    modes: Sequence[tuple[np.ndarray, np.ndarray]], shares: np.ndarray, like: MatchedPrior
) -> MatchedPrior:
    """Match a mixture of the families of `like` to the draws of each mode.

    Parameters
    ----------
    modes
        Draws [draw, coordinate] of each mode, and their weights [draw].
    shares
        Array [mode] of the modes' weights.
    """
    alike = zip(modes, (part for _, part in like.components), strict=True)
    parts = tuple(
        match_like(draws, weights, part.map, like.shrinkage, like.coordinates.names)
        for (draws, weights), part in alike
        if isinstance(part.map, TriangularMap)
    )
    return replace(like, map=Mixture(shares, parts))


def array_bytes(name: str, array: np.ndarray) -> bytes:
    """Return the canonical bytes of a named array: name, shape, then values as little-endian float64."""
    values = np.ascontiguousarray(array, dtype="<f8")
    return f"\n{name}{list(values.shape)}:".encode() + values.tobytes()
