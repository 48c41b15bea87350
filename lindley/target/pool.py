"""Several batches in one target, batch by batch through the same compiled functions.

The target of batches 1 to K that start from a belief is

    prior(u_1) * product over b of  p(l_b | u_b) L_b(u_b, l_b),      u_{b+1} = pass(u_b, l_b)

where `pass` replaces carried state by what the batch's model computes at its end and leaves the rest. A chain
of K links converges to this density when each match is perfect, whatever the model: with state, with local
variables, with labels that appear or vanish.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from lindley.model.coordinates import Layout
from lindley.prior.triangular import TriangularMap
from lindley.target.engine import Bound, Functions, by_point
from lindley.target.native import DENSITY
from lindley.target.native_calls import Density, Words
from lindley.target.native_drivers import driver, pool
from lindley.target.native_pool import Part, at_points
from lindley.target.quantities import Quantities
from lindley.target.term import Term
from lindley.target.whitening import mapped_around, whitened

#: Which inputs of a term's functions vary: coordinates, local variables, cotangent of the state.
_VARYING = {0: 0, 1: 1, 2: 3}


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
        """Return the state that is carried forward."""
        nothing = np.zeros(len(self.term.state_at))
        found: np.ndarray = self.functions["state"](u, local, self.own, nothing, *self.term.data_values)[0]
        return found

    def states_at(self, u: np.ndarray, local: np.ndarray) -> np.ndarray:
        """Return the state that is carried forward at many [point, coordinate] and [point, local]."""
        return self._at_points("state", (u, local))[0]

    def quantities_at(
        self, u: np.ndarray, local: np.ndarray, *, essential: bool = False
    ) -> Quantities[np.ndarray]:
        """Return what is computed for every draw at many [point, coordinate] and [point, local].

        Deterministics that cannot be computed are left out, and all where only what is essential is wanted.
        """
        if not essential:
            try:
                return self.term.names.filled(self._at_points("quantities", (u, local)))
            except Exception:  # a deterministic may hold any operation
                if not self.term.names.deterministics:
                    raise
        return self.term.names.essential().filled(self._at_points("essential", (u, local)))

    def _at_points(self, name: str, vectors: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, ...]:
        """Return an array [point, ...] for each output of a function, as machine code where that can be."""
        function, count = self.functions[name], len(vectors[0])
        nothing = np.zeros(len(self.term.state_at))

        def one(u: np.ndarray, local: np.ndarray) -> tuple[Any, ...]:
            return tuple(function(u, local, self.own, nothing, *self.term.data_values))

        first = [np.asarray(value) for value in one(vectors[0][0], vectors[1][0])] if count else []
        doubles = all(value.dtype == float for value in first)
        if not first or not doubles or not self.is_native or not function.is_native:
            return by_point(one, vectors, function.count)
        cuts = np.cumsum([value.size for value in first])
        flat = at_points(self.part(name), (*vectors, np.zeros((count, len(nothing)))), int(cuts[-1]))
        pieces = np.split(flat, cuts[:-1], axis=1)
        return tuple(piece.reshape(count, *value.shape) for piece, value in zip(pieces, first, strict=True))

    @property
    def is_native(self) -> bool:
        """Whether its density can be called as machine code."""
        stateless = not len(self.term.state_at)  # there is nothing to be compiled then
        return self.functions["term"].is_native and (stateless or self.functions["state"].is_native)

    def part(self, name: str) -> Part:
        """Return one of its functions as machine code."""
        _, local, own, _ = self.term.free
        data = Words.of((self.own, *self.term.data_values), (own, *self.term.data))
        if local.type.shape[0] is None:
            data = replace(data, words=[*data.words, self.local.stop - self.local.start])
        return Part(self.functions[name].part(_VARYING), data)


@dataclass(frozen=True)
class Pool:
    """A target over several batches.

    Parameters
    ----------
    layout
        Where everything stands.
    prior
        The map of the belief that they start from, or one that only whitens; None where neither is there.
    batches
        Their terms, oldest first.
    whitens
        Whether the map only whitens, so that the model's own priors count. It is a joint normal's then.
    """

    layout: Layout
    prior: TriangularMap | None
    batches: tuple[BatchTerm, ...]
    whitens: bool = False

    @property
    def size(self) -> int:
        """Length of the sampler's vector: whitened belief, new coordinates, all local variables."""
        return self.layout.coordinates.size + sum(b.local.stop - b.local.start for b in self.batches)

    def bound(self) -> Bound:
        """Return the target as a function of the sampler's vector, as machine code where that can be."""
        density = self._density() if all(batch.is_native for batch in self.batches) else None
        names = self.batches[-1].term.names
        whole = Bound(
            size=self.size,
            names=names,
            log_density=density or self.log_density,
            table=self.table,
            density=density,
        )
        if not names.deterministics:
            return whole
        table = partial(self.table, essential=True)
        return replace(whole, essential=replace(whole, names=names.essential(), table=table))

    def _density(self) -> Density:
        """Return the log density as machine code, with the words that `native_drivers` reads."""
        kept: list[Any] = []

        def keep(array: np.ndarray) -> int:
            kept.append(array)
            return int(array.ctypes.data)

        def called(part: Part, width: int) -> tuple[int, int]:
            """Return the addresses of a part and of its data, for a part with so many outputs."""
            kept.append(part)
            return part.code.address, keep(part.data.array(width))

        index = [self.layout.belief_at, self.layout.new_at]
        # An affine map goes around: nothing is compiled for it.
        around = self.prior if self.prior is not None and self.prior.normal else None
        inside = self.prior if around is None else None
        belief = most = len(self.layout.belief_at) if inside is not None else 0
        plan = []
        for batch in self.batches:
            state_at = batch.at[batch.term.state_at]
            start, width, states = sum(map(len, index)), len(batch.at), len(state_at)
            index += [batch.at, state_at]
            local = batch.local.stop - batch.local.start
            term = called(batch.part("term"), 1 + width + local)
            state = called(batch.part("state"), states) if states else (0, 0)
            plan.append([*term, *state, start, width, start + width, states, batch.local.start, local])
            most = max(most, 1 + width + local)
        forward = back = map_data = 0
        if inside is not None:
            to_coordinates, to_gradient = whitened(inside)
            forward, map_data = called(to_coordinates, belief)
            back, _ = called(to_gradient, belief)
        every = np.concatenate(index).astype(np.int64)
        words = [
            *(keep(np.array(plan, dtype=np.uint64)), len(plan)),
            *(keep(every), len(every)),
            *(self.layout.coordinates.size, belief, most),
            *(forward, back, map_data, keep(np.array([self._constant if inside is not None else 0.0]))),
        ]
        found = Density(driver(pool, DENSITY), Words(words, kept), self.size)
        if around is None:
            return found
        return mapped_around(found, around, self._constant, weight=0.0 if self.whitens else 1.0)

    def log_density(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log density at x and its gradient."""
        z, u = self._start(x)
        value = self._constant + (0.0 if self.whitens else float(-0.5 * z @ z))
        along = self._along(x, u, BatchTerm.state)
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
            gradient[:belief] = self.prior.jacobian(z).T @ back[self.layout.belief_at]
            if not self.whitens:
                gradient[:belief] -= z
        gradient[belief : self.layout.coordinates.size] = back[self.layout.new_at]
        return value, gradient

    def table(self, points: np.ndarray, *, essential: bool = False) -> tuple[np.ndarray, ...]:
        """Return the quantities at points [point, x], each an array [point, ...], in their fixed order.

        The newest model's, with all coordinates before and after the newest batch in place of its own.

        Raises
        ------
        FitFailed
            If a quantity cannot be computed, or has other shapes at other points.
        """
        _, u = self._start(points)
        *_, last, carried = self._along(points, u, BatchTerm.states_at)
        newest = self.batches[-1]
        here = (last[:, newest.at], points[:, newest.local])
        found = newest.quantities_at(*here, essential=essential)
        if not essential and found.named.keys() != newest.term.names.named.keys():
            raise ValueError("a deterministic cannot be computed")  # the essential bound takes over
        return tuple(replace(found, u=last, carried=carried).flat())

    def _start(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return z and all coordinates before the first batch, at one x or many [..., x]."""
        belief, size = len(self.layout.belief_at), self.layout.coordinates.size
        u = np.zeros((*x.shape[:-1], size))
        z = x[..., :belief]
        if self.prior is not None:
            u[..., self.layout.belief_at] = self.prior.forward(z)
        u[..., self.layout.new_at] = x[..., belief:size]
        return z, u

    def _along(
        self,
        x: np.ndarray,
        u: np.ndarray,
        state: Callable[[BatchTerm, np.ndarray, np.ndarray], np.ndarray],
    ) -> list[np.ndarray]:
        """Return all coordinates before each batch, and after the last, at one x or many [..., x].

        `state` returns the state that a batch carries forward, at as many points.
        """
        along = [u]
        for batch in self.batches:
            if len(batch.term.state_at):
                u = u.copy()
                u[..., batch.at[batch.term.state_at]] = state(batch, u[..., batch.at], x[..., batch.local])
            along.append(u)
        return along

    @property
    def _constant(self) -> float:
        """The part of z's log density, or of the whitening's log slope, that does not depend on z."""
        if self.prior is None:
            return 0.0
        if self.whitens:
            return float(self.prior.log_width.sum())
        return -0.5 * self.prior.size * float(np.log(2 * np.pi))
