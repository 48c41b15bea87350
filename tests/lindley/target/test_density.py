"""The target density against PyMC's own, and its gradient, for every kind of support."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest

from lindley.inference.foreign_trace import coordinates_of
from lindley.model.graph import build, default_carried, take_apart
from lindley.prior.matched import match
from lindley.prior.triangular import joint_normal
from lindley.target.density import Target, target
from lindley.target.engine import Bound, bind, by_point, compiled
from tests.lindley.model.test_graph import FRAME, declared, every_support
from tests.lindley.prior.test_triangular import random_map


@pytest.fixture(scope="module")
def graph():
    declaration = declared(every_support)
    model = build(declaration, FRAME)
    return take_apart(declaration, model, default_carried(declaration, model, FRAME))


@dataclass(frozen=True)
class Evaluated:
    """Functions of a target, compiled without optimisation: these tests are not about a backend."""

    target: Target
    log_density: Any
    quantities: Any

    def bound(self, *arrays) -> Bound:
        arguments = (*arrays, *self.target.data_values)
        return Bound(
            size=self.target.free[0].type.shape[0],
            names=self.target.names,
            log_density=lambda x: self.log_density(x, *arguments),
            table=lambda points: by_point(
                lambda x: self.quantities(x, *arguments), (points,), len(self.target.names.flat())
            ),
        )


def evaluated(symbolic) -> Evaluated:

    def function(outputs):
        return pytensor.function(
            list(symbolic.inputs), outputs, mode="FAST_COMPILE", on_unused_input="ignore"
        )

    return Evaluated(
        target=symbolic,
        log_density=function(symbolic.functions["log_density"]),
        quantities=function(symbolic.functions["quantities"]),
    )


@pytest.fixture(scope="module")
def first(graph):
    return evaluated(target(graph, genesis=True))


@pytest.fixture(scope="module")
def later(graph):
    return evaluated(target(graph, genesis=False))


@pytest.fixture(scope="module")
def prior(graph):
    rng = np.random.default_rng(3)
    mixed = rng.standard_normal((2000, graph.coordinates.size))
    mixed[:, 1:] += 0.5 * mixed[:, :-1]
    return match(0.3 * mixed, graph.coordinates)


def as_point(graph, x):
    """Turn a vector into a PyMC point."""
    point, start = {}, 0
    for variable in graph.free:
        size = variable.block.size
        point[variable.value.name] = x[start : start + size].reshape(variable.block.value_shape)
        start += size
    return point


def test_the_first_link_samples_the_model_as_it_stands(graph, first):
    oracle = graph.model.compile_logp(mode="FAST_COMPILE")
    rng = np.random.default_rng(1)
    for _ in range(5):
        x = rng.normal(0, 0.5, graph.size)
        value, _ = first.log_density(x, *first.target.data_values)
        np.testing.assert_allclose(value, oracle(as_point(graph, x)), rtol=1e-10)


def test_a_later_link_replaces_the_carried_priors_and_nothing_else(graph, later, prior):
    model = graph.model
    kept = [*model.observed_RVs, model["local"]]
    oracle = model.compile_logp(vars=kept, mode="FAST_COMPILE")
    rng = np.random.default_rng(2)
    size = graph.coordinates.size
    for _ in range(5):
        x = rng.normal(0, 1, graph.size)
        u = np.concatenate([prior.map.forward(x[:size]), x[size:]])
        value, _ = later.log_density(x, *prior.first.arrays(), *later.target.data_values)
        standard_normal = -0.5 * (x[:size] ** 2).sum() - 0.5 * size * np.log(2 * np.pi)
        np.testing.assert_allclose(value, standard_normal + oracle(as_point(graph, u)), rtol=1e-10)


def test_the_gradient_is_the_slope_of_the_density(graph, later, prior):
    arguments = (*prior.first.arrays(), *later.target.data_values)
    x = np.random.default_rng(4).normal(0, 1, graph.size)
    _, gradient = later.log_density(x, *arguments)
    for i in range(graph.size):
        step = np.zeros(graph.size)
        step[i] = 1e-5
        up, down = (float(later.log_density(x + s * step, *arguments)[0]) for s in (1, -1))
        np.testing.assert_allclose(gradient[i], (up - down) / 2e-5, rtol=1e-4, atol=1e-6)


def test_natural_scale_values_lie_in_their_support_and_lead_back(graph, later, prior):
    x = np.random.default_rng(5).normal(0, 1, (50, graph.size))
    quantities = later.bound(*prior.first.arrays()).evaluate(x)
    value = quantities.values
    assert (value["positive"] > 0).all()
    assert ((value["interval"] > -1) & (value["interval"] < 4)).all()
    np.testing.assert_allclose(value["simplex"].sum(axis=1), 1)
    assert (np.diff(value["ordered"], axis=1) > 0).all()
    np.testing.assert_allclose(value["zerosum"].sum(axis=1), 0, atol=1e-12)
    carried = {name: v[None] for name, v in value.items() if name in graph.coordinates.variables}
    np.testing.assert_allclose(coordinates_of(carried, graph)[0], quantities.u, rtol=1e-8, atol=1e-8)


def test_whitened_points_of_the_engine_are_those_of_the_matched_prior(graph, later, prior):
    x = np.random.default_rng(6).normal(0, 1, (20, graph.size))
    u = later.bound(*prior.first.arrays()).evaluate(x).u
    np.testing.assert_allclose(u, prior.map.forward(x[:, : graph.coordinates.size]), rtol=1e-12, atol=1e-13)


def inlined(batch: pd.DataFrame) -> pm.Model:
    """A model that holds its data as constants."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        pm.Normal("y", mu, 1, observed=batch["y"].to_numpy())
    return model


def shifted(batch: pd.DataFrame) -> pm.Model:
    """Nearly the same model."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        pm.Normal("y", mu + 1, 1, observed=batch["y"].to_numpy())
    return model


def target_of(function, frame):
    declaration = declared(function)
    return target(take_apart(declaration, build(declaration, frame), ("mu",)), genesis=False)


def test_the_compiled_triangular_map_equals_the_numpy_one(graph, later):
    rng = np.random.default_rng(8)
    nonlinear = random_map(rng, graph.coordinates.size)
    x = rng.normal(0, 0.5, (20, graph.size))
    u = later.bound(*nonlinear.arrays()).evaluate(x).u
    np.testing.assert_allclose(u, nonlinear.forward(x[:, : graph.coordinates.size]), rtol=1e-10, atol=1e-12)


def test_another_batch_reuses_the_compiled_target_even_with_constants_inlined():
    other = FRAME.assign(y=[9.0, 8.0, 7.0])
    first = target_of(inlined, FRAME)
    functions, _ = compiled(first)
    again = target_of(inlined, other)
    reused, before = compiled(again)
    assert before
    assert reused is functions
    assert again.inlined > 0
    assert again.digest == first.digest
    arguments = joint_normal(np.zeros(1), np.eye(1)).arrays()
    x = np.array([0.3])
    value, _ = reused["log_density"](x, *arguments, *again.data_values)
    residual = other["y"].to_numpy() - 0.3
    exact = -0.5 * (0.09 + (residual**2).sum() + 4 * np.log(2 * np.pi))
    np.testing.assert_allclose(value, exact, rtol=1e-12)


def test_another_model_is_compiled_anew():
    one, other = target_of(inlined, FRAME), target_of(shifted, FRAME)
    compiled(one)
    assert not compiled(other)[1]
    assert other.digest != one.digest


def stretched(batch: pd.DataFrame) -> pm.Model:
    """A model that no other test compiles."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        pm.Normal("y", 3 * mu, 1, observed=batch["y"].to_numpy())
    return model


def test_a_function_is_compiled_when_it_is_first_asked_for():
    item = target_of(stretched, FRAME)
    functions, before = compiled(item)
    assert not before
    assert list(item.functions) == ["log_density", "quantities", "essential"]
    assert functions == {}
    bound = bind(
        1,
        item.names,
        functions["log_density"],
        lambda: functions["quantities"],
        (*joint_normal(np.zeros(1), np.eye(1)).arrays(), *item.data_values),
    )
    bound.log_densities(np.zeros((2, 1)))
    assert set(functions) == {"log_density"}
    bound.evaluate(np.zeros((2, 1)))
    assert set(functions) == {"log_density", "quantities"}
    assert compiled(item)[0] is functions
