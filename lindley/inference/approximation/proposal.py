"""The distribution that independent draws are proposed from: a multivariate t, fitted to weighted draws."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gammaln

#: Degrees of freedom beside the number of dimensions: the tails are heavier than those of posteriors that
#: data have shaped, so that the weights of far draws stay bounded. In many dimensions heavier tails than
#: needed put most proposals where nothing is.
_DEGREES = 4.0


@dataclass(frozen=True)
class Proposal:
    """A multivariate t distribution.

    Parameters
    ----------
    center
        Array [x].
    factor
        Lower Cholesky factor [x, x] of its scale matrix.
    """

    center: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, mean: np.ndarray, covariance: np.ndarray) -> Proposal:
        """Return the one with a mean [x] and a covariance [x, x].

        Raises
        ------
        numpy.linalg.LinAlgError
            If the covariance is not positive definite.
        """
        degrees = _DEGREES + len(mean)
        return cls(mean, np.linalg.cholesky(covariance * (degrees - 2) / degrees))

    @property
    def degrees(self) -> float:
        """Degrees of freedom."""
        return _DEGREES + len(self.center)

    @property
    def covariance(self) -> np.ndarray:
        """Its covariance, array [x, x]."""
        return np.asarray(self.factor @ self.factor.T * (self.degrees / (self.degrees - 2)))

    def sample(self, rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Draw points [point, x]; returns them and their log densities [point]."""
        size, degrees = len(self.center), self.degrees
        z = rng.standard_normal((count, size))
        z /= np.sqrt(rng.chisquare(degrees, count) / degrees)[:, None]
        constant = gammaln((degrees + size) / 2) - gammaln(degrees / 2) - 0.5 * size * np.log(degrees * np.pi)
        constant -= np.log(np.diag(self.factor)).sum()
        log_density = constant - 0.5 * (degrees + size) * np.log1p((z**2).sum(axis=1) / degrees)
        return self.center + z @ self.factor.T, log_density

    def refitted(self, points: np.ndarray, weights: np.ndarray) -> Proposal:
        """Return the one with the moments of points [point, x] under weights [point] that sum to one.

        The moments are shrunk to its own by as many draws as it has dimensions: few weights say little.
        """
        mean = weights @ points
        centred = points - mean
        covariance = (weights * centred.T) @ centred
        size, effective = len(self.center), 1 / float((weights**2).sum())
        share = size / (size + effective)
        try:
            return Proposal.of(mean, (1 - share) * covariance + share * self.covariance)
        except np.linalg.LinAlgError:
            return self
