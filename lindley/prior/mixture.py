"""Mixtures of maps: the density of a posterior with separated modes, one map a mode."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from lindley.prior.triangular import ARRAYS, TriangularMap


@dataclass(frozen=True)
class Mixture:
    """A mixture of the distributions of several maps of the same coordinates.

    Parameters
    ----------
    weights
        Array [part], positive and summing to one.
    parts
        One map for each weight.
    """

    weights: np.ndarray
    parts: tuple[TriangularMap, ...]

    #: No mixture is one joint normal, whatever its parts are.
    normal = False

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return self.parts[0].size

    def by_part(self, u: np.ndarray) -> np.ndarray:
        """Return the log of weight times density [part, ...] of coordinates u [..., coordinate]."""
        with np.errstate(over="ignore", invalid="ignore"):
            found = [
                np.log(weight) + part.log_density(u)
                for weight, part in zip(self.weights, self.parts, strict=True)
            ]
        return np.array([np.where(np.isnan(values), -np.inf, values) for values in found])

    def log_density(self, u: np.ndarray) -> np.ndarray:
        """Return the log density [...] of coordinates u [..., coordinate]."""
        return np.asarray(logsumexp(self.by_part(u), axis=0))

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw `size` points; returns an array [draw, coordinate]."""
        which = rng.choice(len(self.weights), size=size, p=self.weights / self.weights.sum())
        z = rng.standard_normal((size, self.size))
        found = np.empty_like(z)
        for number, part in enumerate(self.parts):
            found[which == number] = part.forward(z[which == number])
        return found

    def inverse(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Whiten each point by the part that it most likely belongs to.

        Returns
        -------
        tuple
            z [..., step], and the log [...] of the mixture's density over that of a standard normal at z.
        """
        part_of = self.by_part(u).argmax(axis=0)
        z = np.empty_like(u)
        for number, part in enumerate(self.parts):
            here = part_of == number
            z[here] = part.inverse(u[here])[0]
        normal = -0.5 * (z**2).sum(axis=-1) - 0.5 * self.size * np.log(2 * np.pi)
        return z, self.log_density(u) - normal

    def mean(self) -> np.ndarray:
        """Return the mean [coordinate]."""
        return np.asarray(self.weights @ np.array([part.mean() for part in self.parts]))

    def permuted(self, index: np.ndarray) -> Mixture:
        """Return the same distribution of ``u[index]``."""
        return replace(self, parts=tuple(part.permuted(index) for part in self.parts))

    def stretched(self, factors: np.ndarray) -> Mixture:
        """Return the mixture whose parts are stretched, by a factor for each [coordinate], about their means.

        Modes stay where they are: what widens is how well each is known.
        """
        return replace(self, parts=tuple(part.stretched(factors) for part in self.parts))


#: What a matched prior may hold.
type Map = TriangularMap | Mixture


def named_arrays(map_: Map) -> dict[str, np.ndarray]:
    """Return the arrays that a map consists of, by name, in a fixed order.

    Of a mixture: ``weights``, and the arrays of each part with its number behind the name.
    """
    if isinstance(map_, TriangularMap):
        return dict(zip(ARRAYS, map_.arrays(), strict=True))
    found = {"weights": map_.weights}
    for number, part in enumerate(map_.parts):
        found |= {f"{name}_{number}": array for name, array in named_arrays(part).items()}
    return found


def map_of(arrays: dict[str, np.ndarray]) -> Map:
    """Undo `named_arrays`.

    Raises
    ------
    KeyError, ValueError
        If an array is missing, or weights are not positive or do not sum to one.
    """
    if "weights" not in arrays:
        return TriangularMap(**{name: arrays[name] for name in ARRAYS})
    weights = arrays["weights"]
    if weights.ndim != 1 or not (weights > 0).all() or not np.isclose(weights.sum(), 1.0, atol=1e-9):
        raise ValueError("weights of a mixture that are not positive, or do not sum to one")
    parts = (TriangularMap(**{n: arrays[f"{n}_{number}"] for n in ARRAYS}) for number in range(len(weights)))
    return Mixture(weights, tuple(parts))
