"""Predictive draws: of the right distribution, independent, in one call where possible."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
import pytest
from pytensor.graph.replace import graph_replace
from scipy import stats

from lindley.inference import predictive
from lindley.inference.predictive import _many_at_once, predictive_draws

DRAWS = 4000
#: Twice the probability of a false alarm in ten million for each comparison.
LEVEL = 1e-7


def regression() -> pm.Model:
    with pm.Model() as model:
        b, s = pm.Normal("b", 0, 1, shape=2), pm.HalfNormal("s", 1)
        design = pm.Data("x", np.array([[1.0, 0.0], [1.0, 2.0], [0.5, -1.0]]))
        pm.Normal("y", design @ b, s, observed=np.zeros(3))
    return model


def with_local() -> pm.Model:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1, shape=2)
        pm.HalfNormal("s", 1)
        local = pm.Normal("local", b[0], 1.0, shape=3)
        pm.Normal("y", local, 0.5, observed=np.zeros(3))
    return model


def with_noise_of_its_own() -> pm.Model:
    """One variable depends on nothing that is given: it must not be shared by all draws."""
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1, shape=2)
        pm.HalfNormal("s", 1)
        noise = pm.Normal("noise", 0, 2.0)
        pm.Normal("y", b[0] + noise, 0.1, observed=np.zeros(3))
    return model


def with_loop() -> pm.Model:
    with pm.Model() as model:
        b, s = pm.Normal("b", 0, 1, shape=2), pm.HalfNormal("s", 1)
        path = pytensor.scan(lambda before, slope: before * slope, outputs_info=b[0], non_sequences=[b[1]],
                             n_steps=3, return_updates=False)  # fmt: skip
        pm.Normal("y", path, s, observed=np.zeros(3))
    return model


def with_mixture() -> pm.Model:
    with pm.Model() as model:
        b, s = pm.Normal("b", 0, 1, shape=2), pm.HalfNormal("s", 1)
        pm.NormalMixture("y", [0.3, 0.7], b, s, observed=np.zeros(3))
    return model


def points(count: int = DRAWS) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"b": rng.normal(size=(count, 2)), "s": rng.uniform(0.5, 1.5, size=count)}


def drawn(build: Callable[[], pm.Model], values: dict[str, np.ndarray], seed: int) -> np.ndarray:
    return predictive_draws(build(), values, rng=np.random.default_rng(seed))["y"]


def at_once(build: Callable[[], pm.Model]) -> bool:
    model = build()
    given = [rv for rv in model.free_RVs if rv.name in points()]
    single = [rv.type(name=rv.name) for rv in given]
    outputs = graph_replace(model.observed_RVs, dict(zip(given, single, strict=True)), strict=False)
    return _many_at_once(outputs, single) is not None


@pytest.mark.parametrize(
    ("build", "possible"),
    [
        (regression, True),
        (with_local, True),
        (with_noise_of_its_own, False),
        (with_loop, False),
        (with_mixture, False),
    ],
)
def test_many_draws_at_once_only_where_each_would_be_independent(
    build: Callable[[], pm.Model], possible: bool
) -> None:
    assert at_once(build) is possible


def test_a_regression_has_its_exact_predictive_distribution() -> None:
    values = points()
    y = drawn(regression, values, 1)
    design = np.array([[1.0, 0.0], [1.0, 2.0], [0.5, -1.0]])
    residual = (y - values["b"] @ design.T) / values["s"][:, None]
    for row in residual.T:
        assert stats.kstest(row, "norm").pvalue > LEVEL
    pairs = np.corrcoef(residual.T)[np.triu_indices(3, 1)]
    np.testing.assert_array_less(np.abs(pairs), 5.5 / np.sqrt(DRAWS))
    # From draw to draw as well.
    assert abs(np.corrcoef(residual[1:, 0], residual[:-1, 0])[0, 1]) < 5.5 / np.sqrt(DRAWS)


def test_local_variables_are_drawn_anew_for_each_draw() -> None:
    values = points()
    residual = (drawn(with_local, values, 2) - values["b"][:, :1]) / np.sqrt(1.25)
    assert stats.kstest(residual[:, 1], "norm").pvalue > LEVEL
    assert abs(np.corrcoef(residual[1:, 0], residual[:-1, 0])[0, 1]) < 5.5 / np.sqrt(DRAWS)


def test_a_variable_without_given_parents_is_drawn_for_each_draw() -> None:
    values = points(400)
    residual = drawn(with_noise_of_its_own, values, 3)[:, 0] - values["b"][:, 0]
    assert stats.kstest(residual / np.sqrt(4.01), "norm").pvalue > LEVEL


def test_a_loop_and_a_mixture_are_drawn_one_by_one() -> None:
    values = points(400)
    path = values["b"][:, :1] * values["b"][:, 1:] ** np.arange(1, 4)
    residual = (drawn(with_loop, values, 4) - path) / values["s"][:, None]
    assert stats.kstest(residual[:, 2], "norm").pvalue > LEVEL
    y = drawn(with_mixture, values, 5)[:, 0]
    cdf = 0.3 * stats.norm.cdf(y, values["b"][:, 0], values["s"])
    cdf += 0.7 * stats.norm.cdf(y, values["b"][:, 1], values["s"])
    assert stats.kstest(cdf, "uniform").pvalue > LEVEL


def test_draws_in_several_calls_do_not_repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictive, "_MOST_NUMBERS", 60)
    values = {"b": np.zeros((35, 2)), "s": np.ones(35)}
    y = drawn(regression, values, 6)
    assert y.shape == (35, 3)
    assert len(np.unique(y)) == y.size


def test_the_same_seed_gives_the_same_draws() -> None:
    values = points(50)
    np.testing.assert_array_equal(drawn(regression, values, 7), drawn(regression, values, 7))
    assert (drawn(regression, values, 7) != drawn(regression, values, 8)).all()


def test_broadcast_data_of_the_model_are_those_of_the_batch() -> None:
    with pm.Model() as model:
        b = pm.Normal("b", 0, 1)
        pm.Poisson("y", pt.exp(b) * pm.Data("exposure", np.array([1.0, 10.0])), observed=np.array([0, 0]))
    y = predictive_draws(model, {"b": np.zeros(DRAWS)}, rng=np.random.default_rng(9))["y"]
    assert y.dtype.kind == "i"
    np.testing.assert_array_less(np.abs(y.mean(axis=0) - [1, 10]), 5.5 * np.sqrt([1, 10]) / np.sqrt(DRAWS))
