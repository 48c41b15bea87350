"""The matched prior: a distribution in coordinates with the posterior's joint moments.

``u = loc + scale * sinh((asinh(C z) + skew) / tail)`` with z ~ Normal(0, I). The family ``normal`` has
skew 0, tail 1 and scale 1, so that u = loc + C z: the joint normal with the posterior's mean and its
whole covariance C C'. The warp is Jones & Pewsey (2009), Biometrika 96:761.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lindley.coordinates import Coordinates, permutation
from lindley.errors import FitFailed

Family = Literal["normal"]

#: Named arrays of a matched prior, in the order in which they are hashed and passed to the engine.
ARRAYS = ("loc", "scale", "factor", "skew", "tail")


@dataclass(frozen=True)
class MatchedPrior:
    """A distribution over the coordinates of a model's carried variables.

    Parameters
    ----------
    coordinates
        What each coordinate is.
    family
        The matching family.
    loc, scale, skew, tail
        Arrays [coordinate].
    factor
        Array [coordinate, coordinate], lower triangular: the factor C.
    """

    coordinates: Coordinates
    family: Family
    loc: np.ndarray
    scale: np.ndarray
    factor: np.ndarray
    skew: np.ndarray
    tail: np.ndarray

    def arrays(self) -> tuple[np.ndarray, ...]:
        """Return the arrays in the order of `ARRAYS`."""
        return tuple(getattr(self, name) for name in ARRAYS)

    def unwhiten(self, z: np.ndarray) -> np.ndarray:
        """Map whitened points z [..., coordinate] to coordinates u [..., coordinate]."""
        y = z @ self.factor.T
        return self.loc + self.scale * np.sinh((np.arcsinh(y) + self.skew) / self.tail)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw `size` points; returns an array [draw, coordinate]."""
        return self.unwhiten(rng.standard_normal((size, self.coordinates.size)))

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
        return MatchedPrior(
            coordinates=model,
            family=self.family,
            loc=self.loc[index],
            scale=self.scale[index],
            factor=_triangular(self.factor[index]),
            skew=self.skew[index],
            tail=self.tail[index],
        )


def match(draws: np.ndarray, coordinates: Coordinates) -> MatchedPrior:
    """Match a prior to posterior draws by their joint moments.

    Parameters
    ----------
    draws
        Array [draw, coordinate] in unconstrained space.
    coordinates
        What each coordinate is.

    Returns
    -------
    MatchedPrior
        Family ``normal``: the draws' mean and their whole covariance.

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
    return MatchedPrior(
        coordinates=coordinates,
        family="normal",
        loc=draws.mean(axis=0),
        scale=np.ones(size),
        factor=_factor(covariance, coordinates),
        skew=np.zeros(size),
        tail=np.ones(size),
    )


def _factor(covariance: np.ndarray, coordinates: Coordinates) -> np.ndarray:
    """Return the lower Cholesky factor of a covariance, by way of its correlation matrix.

    Scaling first keeps coordinates of very different units apart. When carried state is a function of
    carried parameters the matrix is singular up to rounding; the smallest ridge that factors it is
    added (1e-14 to 1e-8 of each variance).
    """
    sd = np.sqrt(np.diag(covariance))
    if not (sd > 0).all():
        frozen = [coordinates.names[i] for i in np.flatnonzero(~(sd > 0))]
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


def _triangular(factor: np.ndarray) -> np.ndarray:
    """Return the lower triangular factor with the same product with its transpose."""
    upper = np.linalg.qr(factor.T, mode="r")
    return np.ascontiguousarray((upper * np.sign(np.diag(upper))[:, None]).T)


def array_bytes(name: str, array: np.ndarray) -> bytes:
    """Return the canonical bytes of a named array: name, shape, then values as little-endian float64."""
    values = np.ascontiguousarray(array, dtype="<f8")
    return f"\n{name}{list(values.shape)}:".encode() + values.tobytes()
