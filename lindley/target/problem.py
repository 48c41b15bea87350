"""A prepared step: the target, and where coordinates are in the sampler's vector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lindley.model.coordinates import Coordinates, Layout
from lindley.model.graph import ModelGraph
from lindley.prior.triangular import TriangularMap
from lindley.target.engine import Bound
from lindley.target.quantities import Quantities


@dataclass(frozen=True)
class Problem:
    """A prepared step.

    Parameters
    ----------
    graph
        Model of the newest batch.
    layout
        Where coordinates of belief and batches stand.
    prior
        The belief's map, in the order of ``layout.belief_at``; None before the first link.
    local_names
        Names of the local variables in the sampler's vector, batch after batch.
    bound
        The target.
    at
        ``f(u, local)``: the newest model's quantities, arrays [point, ...], at its own coordinates
        [point, coordinate] and local variables [point, local].
    start
        Draws a starting point [x] from a generator.
    pooled
        How several batches were brought together: ``rows`` in one table, ``terms`` one by one;
        empty for one batch.
    digest, inlined, compiled_before
        Of the target's graph.
    """

    graph: ModelGraph
    layout: Layout
    prior: TriangularMap | None
    local_names: tuple[str, ...]
    bound: Bound
    at: Callable[[np.ndarray, np.ndarray], Quantities[np.ndarray]]
    start: Callable[[np.random.Generator], np.ndarray]
    pooled: str
    digest: str
    inlined: int
    compiled_before: bool

    @property
    def coordinates(self) -> Coordinates:
        """Coordinates of the belief after the step."""
        return self.layout.coordinates

    @property
    def names(self) -> list[str]:
        """Names of all coordinates and local variables."""
        return [*self.coordinates.names, *self.local_names]

    def points(self, x: np.ndarray) -> np.ndarray:
        """Take the sampler's vectors x [..., x] to coordinates before the first batch and local variables."""
        size, belief = self.coordinates.size, len(self.layout.belief_at)
        found = x.copy()
        if self.prior is not None:
            found[..., self.layout.belief_at] = self.prior.forward(x[..., :belief])
            found[..., self.layout.new_at] = x[..., belief:size]
        return found

    def vectors(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Undo `points`; returns x [..., x] and log|det dx/dpoints| [...]."""
        size = self.coordinates.size
        if self.prior is None:
            return points, np.zeros(points.shape[:-1])
        z, log_slope = self.prior.inverse(points[..., self.layout.belief_at])
        new = points[..., self.layout.new_at]
        return np.concatenate([z, new, points[..., size:]], axis=-1), log_slope

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Return the target's scores [point, coordinate] of the coordinates, at x [point, x]."""
        size, belief = self.coordinates.size, len(self.layout.belief_at)
        gradients = self.bound.log_densities(x)[1]
        found = gradients[:, :size].copy()
        if self.prior is not None:
            found[:, self.layout.belief_at] = self.prior.gradient_in_u(x[:, :belief], gradients[:, :belief])
            found[:, self.layout.new_at] = gradients[:, belief:size]
        return found

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Return the target's log density [point] at coordinates and local variables [point, x].

        The sampler's target is a density of whitened points; the slope of the whitening takes it over.
        """
        x, log_slope = self.vectors(points)
        found: np.ndarray = self.bound.log_densities(x)[0] + log_slope
        return found

    def quantities(self, u: np.ndarray) -> Quantities[np.ndarray]:
        """Return the newest model's quantities at coordinates [point, coordinate], local variables at 0."""
        return self.at(u, np.zeros((len(u), self.graph.size - self.graph.coordinates.size)))

    def log_likelihood(self, points: np.ndarray) -> np.ndarray:
        """Return the newest batch's log likelihood [point] at coordinates [point, coordinate].

        For models without local variables; the belief may have labels that the batch does not.
        """
        names = self.coordinates.names
        here = [names.index(name) for name in self.graph.coordinates.names]
        return self.quantities(points[:, here]).log_likelihood
