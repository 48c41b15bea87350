"""A prepared step: the target, where coordinates are in the sampler's vector, and where chains start."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.scalar.basic import Cast
from pytensor.tensor.basic import constant
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import Shape, Shape_i
from scipy.special import logsumexp

from lindley.model.coordinates import Coordinates, Layout
from lindley.model.graph import ModelGraph
from lindley.model.priors import prior_coordinates
from lindley.model.tensors import plain
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import TriangularMap
from lindley.target.engine import Bound, Function, Graph, keep, recall, same_computation
from lindley.target.quantities import Quantities

#: Draws of a model's own prior that chains start from.
_DRAWS = 256
#: Priors kept per process, as graphs, with their draws.
_KEEP = 8
_priors: list[tuple[tuple[list[Variable], list[Variable]], np.ndarray | None]] = []
_lock = threading.Lock()


@dataclass(frozen=True)
class Starts:
    """Starting points of a target. All is computed on first use: one that is only evaluated needs none.

    Parameters
    ----------
    graphs, layout
        The models of its batches, oldest first, and where their coordinates are.
    size
        Length of the sampler's vector x.
    """

    graphs: tuple[ModelGraph, ...]
    layout: Layout
    size: int

    def dispersed(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a starting point [x] from the prior: the belief's, or the model's own where it is proper."""
        rows = self.own if not len(self.layout.belief_at) else None
        return self.central(rng) if rows is None else rows[rng.integers(len(rows))].copy()

    def central(self, rng: np.random.Generator) -> np.ndarray:
        """Draw a starting point [x] from the belief, and at most 1 from the models' own starting points."""
        center, spread = self._center
        x = center + spread * rng.uniform(-1, 1, self.size)
        belief = len(self.layout.belief_at)
        x[:belief] = rng.standard_normal(belief)
        return x

    @cached_property
    def own(self) -> np.ndarray | None:
        """Draws [draw, x] of all coordinates and local variables from the models' own priors.

        A coordinate is drawn from the oldest model that has it. None where a prior is improper.
        """
        coordinates = self.layout.coordinates.size
        rows = np.zeros((_DRAWS, self.size))
        start, seen = coordinates, np.zeros(coordinates, dtype=bool)
        for graph, place in zip(self.graphs, self.layout.model_at, strict=True):
            drawn, carried = _drawn(graph), graph.coordinates.size
            if drawn is None:
                return None
            new = ~seen[place]
            rows[:, place[new]] = drawn[:, :carried][:, new]
            seen[place] = True
            stop = start + graph.size - carried
            rows[:, start:stop] = drawn[:, carried:]
            start = stop
        return rows

    @cached_property
    def _center(self) -> tuple[np.ndarray, np.ndarray]:
        """Where to start and how far from it, arrays [x]: 0 and 1 for coordinates of the belief."""
        center, spread = np.zeros(self.size), np.ones(self.size)
        start, belief = self.layout.coordinates.size, len(self.layout.belief_at)
        place = {position: belief + i for i, position in enumerate(self.layout.new_at)}
        layout = self.layout
        for graph, at, own in zip(self.graphs, layout.model_at, layout.first_seen, strict=True):
            if not graph.local and not own.any():
                continue  # its own point would take a compilation
            point, carried = initial_point(graph), graph.coordinates.size
            width = _spread(graph) if own.any() else np.ones(graph.size)
            new = [place[position] for position in at[own]]
            center[new], spread[new] = point[:carried][own], width[:carried][own]
            stop = start + graph.size - carried
            center[start:stop], spread[start:stop] = point[carried:], width[carried:]
            start = stop
        return center, spread


def initial_point(graph: ModelGraph) -> np.ndarray:
    """Return the model's own starting point, array [x]."""
    point = graph.model.initial_point(random_seed=0)
    by_variable: Sequence[np.ndarray] = [np.ravel(point[variable.value.name]) for variable in graph.free]
    return np.concatenate(by_variable).astype(float)


def _drawn(graph: ModelGraph) -> np.ndarray | None:
    """Return draws [draw, x] from a model's own priors; None where one is improper.

    Drawing takes a compilation. A model whose priors are the same computation, of the same numbers, as those
    of one before has the same draws, since their seed is fixed.
    """
    outputs = [plain(one) for one in graph.coordinates_of_values()]
    leaves = [v for v in ancestors(outputs) if v.owner is None and not isinstance(v, Constant)]
    # The length of a dimension and other data of the model are numbers like constants are.
    numbers = [v for v in leaves if isinstance(v, SharedVariable) and not isinstance(v.type, RandomType)]
    random = [v for v in leaves if v not in set(numbers)]
    if not all(isinstance(v.type, RandomType) for v in random):
        return prior_coordinates(graph, size=_DRAWS, seed=0)
    inputs = [v.type() for v in random]
    stand_ins = dict(zip(random, inputs, strict=True)) | {v: constant(v.get_value()) for v in numbers}
    own = inputs, graph_replace(outputs, stand_ins, strict=False)
    with _lock:
        known = recall(_priors, lambda item: same_computation(item[0], own))
    if known is None:
        known = own, prior_coordinates(graph, size=_DRAWS, seed=0)
        with _lock:
            keep(_priors, known, _KEEP)
    return None if known[1] is None else known[1].copy()


def _spread(graph: ModelGraph) -> np.ndarray:
    """Return how far from the model's own point to start, array [x]: the prior's spread, at most 1."""
    draws = _drawn(graph)
    if draws is None:
        return np.ones(graph.size)
    low, high = np.quantile(draws, [0.16, 0.84], axis=0)
    return np.clip((high - low) / 2, 1e-6, 1.0)


@dataclass(frozen=True)
class Outcomes:
    """One batch's target at a point, as a function of the batch's outcomes.

    Parameters
    ----------
    graph
        The batch's model.
    item, function
        Its target or term, and the compiled function of a log density and its gradient by the first input.
    fixed
        The inputs between the first one and the data.
    whitener
        The map of the first input, where that is a whitened point.
    """

    graph: ModelGraph
    item: Graph
    function: Callable[[], Function]
    fixed: Sequence[np.ndarray]
    whitener: TriangularMap | None = None

    def places(self) -> dict[str, int] | str:
        """Return the place of each observed variable's outcomes among the data; or why there is none.

        Outcomes that the model also uses otherwise, as lags do, cannot be replaced.
        """
        graph, sources = self.graph.compilable, list(self.item.sources)
        model = graph.model
        if graph.local:
            return "the model has local variables"
        if len(graph.likelihood_variables()) > len(model.observed_RVs):
            return "a potential is part of the likelihood"
        named = [*model.free_RVs, *model.observed_RVs, *model.potentials, *model.deterministics]
        # The shape of a distribution may be that of its outcomes, which stays.
        sizes = [v for v in ancestors(named) if v.owner and isinstance(v.owner.op, (Shape, Shape_i))]
        used, found = set(ancestors(named, blockers=sizes)), {}
        for rv in model.observed_RVs:
            leaf = _uncast(model.rvs_to_values[rv])
            if leaf in used or leaf not in sources:
                return f"the outcomes of {rv.name} are computed, or used elsewhere in the model"
            found[str(rv.name)] = sources.index(leaf)
        return found

    def scores(
        self, u: np.ndarray, outcomes: Mapping[str, np.ndarray], places: Mapping[str, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return log densities [simulation] and scores [simulation, coordinate], each up to a constant.

        Parameters
        ----------
        u
            The point, array [coordinate], in the order of the batch's model.
        outcomes, places
            Outcomes by observed variable, arrays [simulation, ...]; and `places`.
        """
        x = u if self.whitener is None else self.whitener.inverse(u)[0]
        data = [np.array(value) for value in self.item.data_values]
        function, count = self.function(), len(next(iter(outcomes.values())))
        arrays, first = [*self.fixed, *data], len(self.fixed)
        density = function.density(arrays) if function.is_native and function.count == 2 else None
        if density is not None:
            held = {first + place: outcomes[name] for name, place in places.items()}
            rows = {at: _as_kind(drawn, density.words.kept[at]) for at, drawn in held.items()}
            values, gradients = density.over(x, rows, count)
        else:
            values, gradients = np.full(count, np.nan), np.full((count, len(x)), np.nan)
            for i in range(count):
                for name, place in places.items():
                    arrays[first + place][...] = _as_kind(outcomes[name][i], arrays[first + place])
                value, gradient, *_ = function(x, *arrays)
                values[i], gradients[i] = float(value), gradient
        if self.whitener is not None:
            # By least squares: a width that underflows leaves its coordinate without a score.
            slope = np.nan_to_num(self.whitener.jacobian(x))
            gradients = gradients @ np.linalg.pinv(slope, rcond=1e-12)
        return values, gradients


def _uncast(value: Variable) -> Variable:
    """Return what a variable is a cast of: data of another type."""
    while value.owner is not None and isinstance(value.owner.op, Elemwise):
        if not isinstance(value.owner.op.scalar_op, Cast):
            break
        value = value.owner.inputs[0]
    return value


def _as_kind(drawn: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Return drawn outcomes in the type of the data: whole numbers where those are."""
    return np.rint(drawn) if place.dtype.kind in "iu" and drawn.dtype.kind == "f" else drawn


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a target before it is prepared.

    Parameters
    ----------
    whitener
        A belief close to the result, in whose whitened space the sampler moves where the fit starts from
        genesis. It changes the speed of sampling, not the target.
    seen
        Where the target is only evaluated: a prior of the same coordinates whose functions are compiled
        already. Quantities are then compiled on first use.
    adds_up
        Whether the rows of two batches add up, as far as it is known. Batches whose rows do not are fitted
        one by one from the first one on.
    """

    whitener: MatchedPrior | None = None
    seen: MatchedPrior | None = None
    adds_up: bool | None = None


NOTHING_KNOWN = Known()


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
    local_names, circular_locals
        Names of the local variables in the sampler's vector, batch after batch, and which of them are angles.
    bound
        The target.
    at
        ``f(u, local)``: the newest model's quantities, arrays [point, ...], at its own coordinates
        [point, coordinate] and local variables [point, local].
    outcomes
        Returns the newest batch's target as a function of its outcomes.
    starts
        How starting points are drawn.
    pooled
        How several batches were brought together: ``rows`` in one table, ``terms`` one by one;
        empty for one batch.
    apart
        Whether the target has a term for each batch, also where there is only one.
    digest, inlined, compiled_before
        Of the target's graph.
    genesis
        Whether the model's own priors hold, and `prior` at most whitens.
    turns
        Array [x]: the angle within half a turn of which a circular variable lies, NaN where its density is
        not that of its own prior, which repeats itself after every turn; None without such variables.
    components
        The targets of a prior that is a mixture, each behind its weight; empty otherwise. The other fields
        are then those of the first one, which differ in the prior only.
    """

    graph: ModelGraph
    layout: Layout
    prior: TriangularMap | None
    local_names: tuple[str, ...]
    circular_locals: np.ndarray
    bound: Bound
    at: Callable[[np.ndarray, np.ndarray], Quantities[np.ndarray]]
    outcomes: Callable[[], Outcomes]
    starts: Starts
    pooled: str
    digest: str
    inlined: int
    compiled_before: bool
    genesis: bool = False
    apart: bool = False
    turns: np.ndarray | None = None
    components: tuple[tuple[float, Problem], ...] = ()

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

        The sampler's target is a density of whitened points; the slope of the whitening takes it over. A
        circular variable has all of its density within one turn.
        """
        if self.components:
            terms = [np.log(weight) + one.log_density(points) for weight, one in self.components]
            return np.asarray(logsumexp(np.where(np.isnan(terms), -np.inf, terms), axis=0))
        x, log_slope = self.vectors(points)
        found: np.ndarray = self.bound.log_densities(x)[0] + log_slope
        if self.turns is not None:
            beyond = (np.abs(points - self.turns) > np.pi).any(axis=-1)
            found = np.where(beyond, -np.inf, found)
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
