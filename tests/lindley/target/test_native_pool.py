"""Batches that are fitted one by one as machine code: what Python computes, for state, locals and labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
import pytensor.tensor as pt
import pytest
from pytensor.raise_op import Assert

from lindley.errors import FitFailed
from lindley.inference.sampling import FitSettings, sample
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal
from lindley.target import pool
from lindley.target.native_calls import Words
from lindley.target.native_pool import Part, at_points
from lindley.target.problem import Problem
from tests.lindley.prior.test_triangular import random_map
from tests.lindley.target.test_native import compiled
from tests.lindley.target.test_pool import everything, same_slope
from tests.support.pooling import batches_of, declared, prepared

v, w, pull = pt.vector("v", shape=(2,)), pt.vector("w", shape=(1,)), pt.vector("pull", shape=(0,))


def lower(rng: np.random.Generator, size: int) -> np.ndarray:
    """A Cholesky factor."""
    return np.tril(rng.normal(size=(size, size)), -1) + np.diag(rng.uniform(0.5, 2, size))


@pytest.fixture(params=["genesis", "belief", "whitened"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[Problem, Problem]:
    """The same target of three batches as machine code and by Python."""
    rng = np.random.default_rng(1)
    carry = {} if request.param == "whitened" else {"x": "x_end"}
    declaration = declared(everything, ("scale", "theta", "x"), carry=carry)
    older, *batches = batches_of(declaration, ["zab", "abb", "bcb", "cad"], rng)
    prior = whitener = None
    if request.param == "belief":
        coordinates = prepared(declaration, [older]).coordinates
        prior = MatchedPrior(coordinates, random_map(rng, coordinates.size))
    if request.param == "whitened":
        # A belief that has not seen the last batch's new label.
        coordinates = prepared(declaration, batches[:2]).coordinates
        factor = lower(rng, coordinates.size)
        whitener = MatchedPrior(coordinates, joint_normal(rng.normal(size=coordinates.size), factor))
    native = prepared(declaration, batches, prior, whitener)
    monkeypatch.setattr(pool.BatchTerm, "is_native", False)
    python = prepared(declaration, batches, prior, whitener)
    assert (native.pooled, python.pooled) == ("terms", "terms")
    assert native.bound.density is not None
    assert python.bound.density is None
    return native, python


def near(one: np.ndarray, two: np.ndarray) -> None:
    """Hold two roundings of the same sum against each other."""
    np.testing.assert_allclose(one, two, rtol=1e-12, atol=1e-11)


def test_density_and_slope_are_those_of_python(ways: tuple[Problem, Problem]) -> None:
    native, python = ways
    points = np.random.default_rng(2).normal(0, 0.5, (200, native.bound.size))
    for one, two in zip(native.bound.log_densities(points), python.bound.log_densities(points), strict=True):
        near(one, two)
    value, gradient = native.bound.log_density(points[3])
    exact, slope = python.bound.log_density(points[3])
    near(np.array([value, *gradient]), np.array([exact, *slope]))
    same_slope(native.bound, points[5])


def test_quantities_of_many_draws_are_those_of_python(ways: tuple[Problem, Problem]) -> None:
    native, python = ways
    points = np.random.default_rng(3).normal(0, 0.5, (2, 70, native.bound.size))
    found, wanted = native.bound.evaluate(points), python.bound.evaluate(points)
    assert list(found.named) == list(wanted.named)
    for one, two in zip(found.flat(), wanted.flat(), strict=True):
        assert one.shape == two.shape
        near(one, two)
    u, local = np.zeros((0, native.graph.coordinates.size)), np.zeros((0, 3))
    assert all(len(values) == 0 for values in native.at(u, local).flat())


def test_a_whitener_changes_the_space_and_not_the_target() -> None:
    rng = np.random.default_rng(4)
    declaration = declared(everything, ("scale", "theta", "x"))
    batches = batches_of(declaration, ["abb", "bcb"], rng)
    plain = prepared(declaration, batches)
    size = plain.coordinates.size
    factor = lower(rng, size)
    whitener = MatchedPrior(plain.coordinates, joint_normal(rng.normal(size=size), factor))
    whitened = prepared(declaration, batches, whitener=whitener)
    assert whitened.prior is whitener.map
    for x in rng.normal(0, 0.5, (5, plain.bound.size)):
        u = np.concatenate([whitener.map.forward(x[:size]), x[size:]])
        wanted = float(plain.bound.log_density(u)[0]) + np.log(np.diag(factor)).sum()
        assert float(whitened.bound.log_density(x.copy())[0]) == pytest.approx(wanted, rel=1e-10)
        np.testing.assert_allclose(whitened.points(x[None])[0], u)
        assert float(whitened.vectors(u[None])[1][0]) == pytest.approx(-np.log(np.diag(factor)).sum())


def test_state_is_not_whitened_by_where_the_chain_ended() -> None:
    declaration = declared(everything, ("scale", "theta", "x"), carry={"x": "x_end"})
    batches = batches_of(declaration, ["abb", "bab"], np.random.default_rng(5))
    coordinates = prepared(declaration, batches).coordinates
    whitener = MatchedPrior(coordinates, joint_normal(np.zeros(4), 2 * np.eye(4)))
    assert prepared(declaration, batches, whitener=whitener).prior is None


def test_both_ways_sample_the_same_draws_bit_by_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    declaration = declared(everything, ("scale", "theta", "x"), carry={"x": "x_end"})
    batches = batches_of(declaration, ["abb", "bcb"], np.random.default_rng(6))
    native = prepared(declaration, batches)
    monkeypatch.setattr(pool.BatchTerm, "is_native", False)
    settings = FitSettings(chains=2, tune=100, draws=100)
    one, two = (
        sample(problem.bound, start=problem.starts.central, settings=settings, seed=7)
        for problem in (native, prepared(declaration, batches))
    )
    np.testing.assert_array_equal(one.x, two.x)
    np.testing.assert_array_equal(one.quantities.carried, two.quantities.carried)


def part(outputs: list[Any]) -> Part:
    """A part of two vectors without data."""
    function = compiled([v, w, pull], outputs)
    return Part(function.part({0: 0, 1: 1, 2: 2}), Words([], []))


def vectors(first: list[float]) -> list[np.ndarray]:
    return [np.array([[x, 1.0] for x in first]), np.ones((len(first), 1)), np.zeros((len(first), 0))]


def test_a_part_that_raises_or_changes_its_size_is_refused_and_memory_beyond_stays() -> None:
    checked = Assert("v[0] is negative")(v, pt.ge(v[0], 0))
    np.testing.assert_array_equal(at_points(part([2 * checked, w]), vectors([1.0, 3.0]), 3)[:, 0], [2.0, 6.0])
    with pytest.raises(FitFailed, match="cannot be computed at a draw"):
        at_points(part([2 * checked]), vectors([1.0, -1.0]), 2)
    with pytest.raises(FitFailed, match="same shapes"):
        at_points(part([v[v > 0]]), vectors([1.0, -1.0]), 2)
    with pytest.raises(FitFailed, match="same shapes"):
        at_points(part([v[v > 0]]), vectors([-1.0, 1.0]), 1)


def raising(batch: pd.DataFrame) -> pm.Model:
    """A model that cannot be computed at negative values."""
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 1)
        noise = pm.Normal("noise", 0, 1)
        level = Assert("mu is negative")(mu, pt.ge(mu, -5))
        pm.Normal("y", level + noise, 1, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def test_a_term_that_raises_is_nan_there_and_goes_on_elsewhere() -> None:
    declaration = declared(raising, ("mu",))
    problem = prepared(declaration, batches_of(declaration, ["aa", "ab"], np.random.default_rng(8)))
    assert problem.bound.density is not None
    values, _ = problem.bound.log_densities(np.array([[1.0, 0, 0], [-6.0, 0, 0], [2.0, 0, 0]]))
    assert np.isfinite(values).tolist() == [True, False, True]
