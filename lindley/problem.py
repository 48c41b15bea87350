"""A step made ready: the belief it starts from, the model taken apart, the target compiled."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from lindley import model_graph
from lindley.batch import Batch
from lindley.belief import Belief
from lindley.declaration import Declaration
from lindley.density import Target, target
from lindley.engine import Engine, compile_target
from lindley.fit import Draws
from lindley.model_graph import ModelGraph
from lindley.prior import MatchedPrior


class Phases:
    """Seconds by phase, for the profile that every run logs."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Add the time spent inside to a phase."""
        begun = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - begun


@dataclass(frozen=True)
class Problem:
    """A step made ready: model taken apart, target compiled, prior aligned."""

    graph: ModelGraph
    target: Target
    engine: Engine
    prior: MatchedPrior | None
    compiled_before: bool

    @property
    def prior_arrays(self) -> tuple[np.ndarray, ...]:
        """The matched prior's arrays; none at the first link."""
        return self.prior.arrays() if self.prior is not None else ()

    @property
    def arguments(self) -> tuple[np.ndarray, ...]:
        """What the compiled functions take after x."""
        return (*self.prior_arrays, *self.target.data_values)


def prepare(
    prior: Belief | None,
    batch: Batch,
    declaration: Declaration,
    carried: tuple[str, ...],
    phases: Callable[[str], Any],
) -> Problem:
    """Build the model, align the prior with it and compile the target."""
    with phases("build"):
        model = model_graph.build(declaration, batch.frame())
        graph = model_graph.take_apart(declaration, model, carried)
        aligned = prior.matched.aligned(graph.coordinates) if prior is not None else None
        symbolic = target(graph, genesis=prior is None)
    with phases("compile"):
        engine, before = compile_target(symbolic)
    return Problem(graph=graph, target=symbolic, engine=engine, prior=aligned, compiled_before=before)


def passing_draws(graph: ModelGraph, draws: Draws) -> np.ndarray:
    """Return the draws [chain, draw, coordinate] that the next link's prior is matched to.

    The carried variables' own coordinates, and for a variable that takes its state from a carried
    quantity the coordinates of that quantity.
    """
    u = draws.quantities["u"].copy()
    start = 0
    for variable in graph.carried:
        size = variable.block.size
        state = draws.quantities.get(f"next:{variable.name}")
        if state is not None:
            u[..., start : start + size] = state.reshape(*u.shape[:-1], size)
        start += size
    return u


def start_from(problem: Problem) -> Callable[[np.random.Generator], np.ndarray]:
    """Return how starting points are drawn: around the model's own, or from the matched prior."""
    model = problem.graph.model
    point = model.initial_point(random_seed=0)
    by_variable = [np.ravel(point[variable.value.name]) for variable in problem.graph.free]
    center = np.concatenate(by_variable).astype(float)
    size = problem.graph.coordinates.size

    def start(rng: np.random.Generator) -> np.ndarray:
        x = center + rng.uniform(-1, 1, center.size)
        if problem.prior is not None:
            x[:size] = rng.standard_normal(size)
        return x

    return start
