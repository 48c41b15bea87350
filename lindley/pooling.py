"""Several batches in one target, batch by batch through the same compiled functions.

The target of batches 1 to K that start from a belief is

    prior(u_1) * product over b of  p(l_b | u_b) L_b(u_b, l_b),      u_{b+1} = pass(u_b, l_b)

where `pass` replaces carried state by what the batch's model computes at its end and leaves the rest.
It is what a chain of K links converges to when each match is perfect, whatever the model: state, local
variables and labels that come or go included.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lindley.coordinates import Layout
from lindley.engine import Bound, Functions
from lindley.term import Term
from lindley.transport import TriangularMap


@dataclass(frozen=True)
class BatchTerm:
    """One batch's term with its place.

    Parameters
    ----------
    term, functions
        Graph and compiled functions.
    at
        Array [coordinate of the model] of positions in the vector of all coordinates.
    own
        Array [coordinate of the model] of 0 and 1: where the model's own prior counts.
    local
        Where the batch's local variables stand in the sampler's vector.
    """

    term: Term
    functions: Functions
    at: np.ndarray
    own: np.ndarray
    local: slice

    def value(
        self, u: np.ndarray, local: np.ndarray, pull: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """Return the log density's term and the gradients of term + pull . state by u and local."""
        value, du, dl = self.functions["term"](u, local, self.own, pull, *self.term.data_values)
        return float(value), du, dl

    def state(self, u: np.ndarray, local: np.ndarray) -> np.ndarray:
        """Return the state that passes on."""
        nothing = np.zeros(len(self.term.state_at))
        found: np.ndarray = self.functions["state"](u, local, self.own, nothing, *self.term.data_values)[0]
        return found

    def quantities(self, u: np.ndarray, local: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return what is computed for every draw."""
        nothing = np.zeros(len(self.term.state_at))
        found: tuple[np.ndarray, ...] = self.functions["quantities"](
            u, local, self.own, nothing, *self.term.data_values
        )
        return found


@dataclass(frozen=True)
class Pool:
    """A target over several batches.

    Parameters
    ----------
    layout
        Where everything stands.
    prior
        The map of the belief that they start from; None at genesis.
    batches
        Their terms, oldest first.
    """

    layout: Layout
    prior: TriangularMap | None
    batches: tuple[BatchTerm, ...]

    @property
    def size(self) -> int:
        """Length of the sampler's vector: whitened belief, new coordinates, all local variables."""
        return self.layout.coordinates.size + sum(b.local.stop - b.local.start for b in self.batches)

    def bound(self) -> Bound:
        """Return the target as a function of the sampler's vector."""
        keys = ("u", "passing", "log_density", *self.batches[-1].term.keys)
        return Bound(self.size, keys, self.log_density, self.quantities)

    def log_density(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log density at x and its gradient."""
        z, u = self._start(x)
        value = self._log_prior(z)
        along = self._along(x, u)
        gradient = np.zeros(self.size)
        back = np.zeros(self.layout.coordinates.size)
        for batch, u in zip(reversed(self.batches), reversed(along[:-1]), strict=True):
            state_at = batch.at[batch.term.state_at]
            pull = back[state_at]
            back[state_at] = 0.0
            term, du, dl = batch.value(u[batch.at], x[batch.local], pull)
            value += term
            back[batch.at] += du
            gradient[batch.local] = dl
        belief = len(self.layout.belief_at)
        if self.prior is not None:
            gradient[:belief] = self.prior.jacobian(z).T @ back[self.layout.belief_at] - z
        gradient[belief : self.layout.coordinates.size] = back[self.layout.new_at]
        return value, gradient

    def quantities(self, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return all coordinates before and after the newest batch, the density, the model's quantities."""
        _, u = self._start(x)
        along = self._along(x, u)
        newest = self.batches[-1]
        last = along[-2]
        density = np.array(self.log_density(x)[0])
        return (last, along[-1], density, *newest.quantities(last[newest.at], x[newest.local]))

    def _start(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return z and all coordinates before the first batch."""
        belief = len(self.layout.belief_at)
        u = np.zeros(self.layout.coordinates.size)
        z = x[:belief]
        if self.prior is not None:
            u[self.layout.belief_at] = self.prior.forward(z)
        u[self.layout.new_at] = x[belief : len(u)]
        return z, u

    def _along(self, x: np.ndarray, u: np.ndarray) -> list[np.ndarray]:
        """Return all coordinates before each batch, and after the last."""
        along = [u]
        for batch in self.batches:
            if len(batch.term.state_at):
                u = u.copy()
                u[batch.at[batch.term.state_at]] = batch.state(u[batch.at], x[batch.local])
            along.append(u)
        return along

    def _log_prior(self, z: np.ndarray) -> float:
        return float(-0.5 * z @ z - 0.5 * len(z) * np.log(2 * np.pi))
