"""The matched prior: a distribution in coordinates with the posterior's joint shape."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np

from lindley.coordinates import Coordinates, permutation
from lindley.errors import FitFailed
from lindley.matching import match_like, match_map
from lindley.transport import ARRAYS, TriangularMap

#: Matching families: the joint normal, and the bent triangular map.
NORMAL, TRIANGULAR = "normal", "triangular"


@dataclass(frozen=True)
class MatchedPrior:
    """A distribution over the coordinates of a model's carried variables.

    Parameters
    ----------
    coordinates
        What each coordinate is.
    map
        The map from whitened points to coordinates.
    reason
        Why it is of its family.
    """

    coordinates: Coordinates
    map: TriangularMap
    reason: str = ""

    @property
    def family(self) -> str:
        """``normal`` or ``triangular``."""
        return TRIANGULAR if self.map.bent else NORMAL

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return the map's arrays in the order of `lindley.transport.ARRAYS`."""
        return self.map.arrays()

    @property
    def digest(self) -> str:
        """Sha256 over coordinates, family and named arrays."""
        sha = hashlib.sha256(b"lindley-matched-prior/1\n")
        sha.update("\n".join([self.family, *self.coordinates.names]).encode())
        for block in self.coordinates.blocks:
            sha.update(f"\n{block.name}:{block.transform}".encode())
        for name, array in zip(ARRAYS, self.arrays(), strict=True):
            sha.update(array_bytes(name, array))
        return sha.hexdigest()

    def aligned(self, model: Coordinates) -> MatchedPrior:
        """Return the same distribution with its coordinates in the model's order.

        Raises
        ------
        CoordinatesMismatch
            If labels, shapes or transforms do not match.
        """
        index = permutation(self.coordinates, model)
        if np.array_equal(index, np.arange(index.size)):
            return self
        return replace(self, coordinates=model, map=self.map.permuted(index))


def match(
    draws: np.ndarray, coordinates: Coordinates, *, state: frozenset[str] = frozenset()
) -> MatchedPrior:
    """Match a prior to posterior draws.

    Parameters
    ----------
    draws
        Array [draw, coordinate] in unconstrained space, chain after chain.
    coordinates
        What each coordinate is.
    state
        Names of variables that hold carried state: a bent map takes them last.

    Returns
    -------
    MatchedPrior
        With the draws' mean and whole covariance, or bent where the draws ask for it; see
        `lindley.matching.match_map`.

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
    covariance = np.atleast_2d(np.cov(draws, rowvar=False))
    last = np.array([block.name in state for block in coordinates.blocks for _ in range(block.size)])
    found = match_map(draws, covariance_factor(covariance, coordinates.names), last=last)
    return MatchedPrior(coordinates=coordinates, map=found.map, reason=found.reason)


def rematch(draws: np.ndarray, like: MatchedPrior) -> MatchedPrior:
    """Match a prior of the family and order of `like` to draws [draw, coordinate] again.

    Which family was chosen is recorded with its reason; what the family gives on the draws is what a
    verifier can compute anew.
    """
    factor = covariance_factor(np.atleast_2d(np.cov(draws, rowvar=False)), like.coordinates.names)
    return replace(like, map=match_like(draws, factor, like.map))


def covariance_factor(covariance: np.ndarray, names: list[str]) -> np.ndarray:
    """Return the lower Cholesky factor of a covariance, by way of its correlation matrix.

    Scaling first keeps coordinates of very different units apart. When carried state is a function of
    carried parameters the matrix is singular up to rounding; the smallest ridge that factors it is
    added (1e-14 to 1e-8 of each variance).

    Raises
    ------
    FitFailed
        If a coordinate did not move, or the matrix cannot be factored.
    """
    sd = np.sqrt(np.diag(covariance))
    if not (sd > 0).all():
        frozen = [names[i] for i in np.flatnonzero(~(sd > 0))]
        raise FitFailed(
            "The posterior cannot be matched: some coordinates did not move",
            found=f"zero variance in {', '.join(frozen[:5])}",
            todo="check that the sampler could move them, or leave them out of `carried`",
        )
    correlation = covariance / np.outer(sd, sd)
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


def array_bytes(name: str, array: np.ndarray) -> bytes:
    """Return the canonical bytes of a named array: name, shape, then values as little-endian float64."""
    values = np.ascontiguousarray(array, dtype="<f8")
    return f"\n{name}{list(values.shape)}:".encode() + values.tobytes()
