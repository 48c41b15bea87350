"""Batches simulated from the belief before the newest one, against closed forms; and where they cannot be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from scipy import stats

from lindley.batch.batch import batch_from_frame
from lindley.inference.assessment import _simulated
from lindley.inference.diagnostics import pulls
from lindley.inference.diagnostics.conflict import conflict
from lindley.inference.diagnostics.pulls import Pulls, simulate
from lindley.model.declaration import Declaration
from lindley.model.graph import build, take_apart
from lindley.prior.matched import MatchedPrior
from lindley.prior.mixture import Mixture
from lindley.prior.triangular import joint_normal
from lindley.target.density import target
from lindley.target.prepare import prepare
from lindley.target.problem import Outcomes, Problem
from lindley.timing import Phases

SCHEMA = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("y", pa.float64(), nullable=False)])
MEAN, SD, LOG_SD, ROWS = 2.0, 0.3, 0.1, 8


def model(frame: pd.DataFrame) -> pm.Model:
    """Mean and sd of a normal."""
    with pm.Model() as found:
        mu = pm.Normal("mu", 0.0, 5.0)
        sigma = pm.LogNormal("sigma", 0.0, 1.0)
        pm.Normal("y", mu, sigma, observed=pm.Data("values", frame["y"].to_numpy()))
    return found


def declared(function: Callable[..., Any] = model, **options: Any) -> Declaration:
    return Declaration(name="chain", build=function, schema=SCHEMA, row_key=("id",), **options)


def frame_of(y: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({"id": np.arange(len(y)), "y": np.asarray(y, dtype=float)})


@pytest.fixture(scope="module")
def belief() -> MatchedPrior:
    declaration = declared()
    graph = take_apart(declaration, build(declaration, frame_of(np.zeros(3))), ("mu", "sigma"))
    return MatchedPrior(graph.coordinates, joint_normal(np.array([MEAN, 0.0]), np.diag([SD, LOG_SD])))


def problem_of(before: MatchedPrior, y: np.ndarray) -> Problem:
    declaration = declared()
    batch = batch_from_frame(frame_of(y), declaration)
    return prepare(before, [batch], declaration, ("mu", "sigma"), Phases())


def simulated(problem: Problem, before: MatchedPrior, seed: int) -> Pulls | str:
    return simulate(problem, before, partial(_simulated, problem), seed)


def pulls_of(before: MatchedPrior, y: np.ndarray) -> Pulls:
    found = simulated(problem_of(before, y), before, 1)
    assert isinstance(found, Pulls)
    return found


def test_pulls_are_the_scores_of_the_model(belief: MatchedPrior) -> None:
    y = MEAN + np.array([0.5, -1.0, 2.0, 0.1, 0.3, -0.7, 1.1, 0.2])
    found, other = pulls_of(belief, y), pulls_of(belief, np.full(ROWS, MEAN))
    assert found.names == ("mu", "sigma")
    # In the middle of the belief sigma is 1: the scores are sums of residuals and of their squares.
    information = np.array([ROWS * SD**2, 2 * ROWS * LOG_SD**2])
    expected = np.array([(y - MEAN).sum() * SD**2, ((y - MEAN) ** 2).sum() * LOG_SD**2]) / (1 + information)
    # The same simulations centre both; the information is estimated from them.
    np.testing.assert_allclose(found.observed - other.observed, expected, rtol=0.1)
    np.testing.assert_allclose(found.share, information / (1 + information), rtol=0.15)
    sds = np.sqrt(ROWS + ROWS**2 * SD**2) * SD**2 / (1 + information[0])
    assert found.simulated[:, 0].std() == pytest.approx(sds, rel=0.1)


def test_a_static_batch_has_uniform_p_and_a_distant_one_conflicts(belief: MatchedPrior) -> None:
    y = MEAN + np.array([0.5, -1.0, 1.5, 0.1, 0.3, -0.7, 1.1, -1.3])
    found = pulls_of(belief, y)
    near = conflict(found.observed, found.simulated)
    assert near.p > 0.2
    # The exact pull of the mean, standardised by its prior predictive sd.
    z = (y - MEAN).sum() / np.sqrt(ROWS + ROWS**2 * SD**2)
    assert near.pulls[0] == pytest.approx(z, abs=0.15)
    far = pulls_of(belief, y + 6.0)
    assert conflict(far.observed, far.simulated).p < 1e-6
    assert far.log_density < np.quantile(far.log_densities, 0.001)


def test_a_simulation_is_seeded_and_large_batches_have_fewer(belief: MatchedPrior) -> None:
    problem = problem_of(belief, np.zeros(ROWS))
    one, again, other = (simulated(problem, belief, seed) for seed in (1, 1, 2))
    assert isinstance(one, Pulls)
    assert isinstance(again, Pulls)
    assert isinstance(other, Pulls)
    np.testing.assert_array_equal(one.simulated, again.simulated)
    assert not np.array_equal(one.simulated, other.simulated)
    assert len(one.simulated) == 2000
    # The batch itself is as it was.
    np.testing.assert_array_equal(problem.outcomes().item.data_values[0], np.zeros(ROWS))
    many = pulls_of(belief, np.random.default_rng(1).normal(MEAN, 1, 40_000))
    assert len(many.simulated) == 250


@pytest.fixture(scope="module")
def two_modes(belief: MatchedPrior) -> MatchedPrior:
    """The same belief, and a wider one a hundred of its sds away."""
    other = joint_normal(np.array([MEAN - 30.0, 0.5]), np.diag([1.5, 2 * LOG_SD]))
    return replace(belief, map=Mixture(np.array([0.3, 0.7]), (belief.first, other)))


def test_batches_of_either_mode_do_not_conflict_and_others_do(two_modes: MatchedPrior) -> None:
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(ROWS)
    noise = (noise - noise.mean()) / noise.std()
    problem = problem_of(two_modes, np.zeros(ROWS))
    assert len(problem.components) == 2
    near = [pulls_of(two_modes, MEAN + noise), pulls_of(two_modes, MEAN - 30.0 + 1.6 * noise)]
    for found in near:
        assert conflict(found.observed, found.simulated).p > 0.2
        np.testing.assert_allclose(found.observed, 0.0, atol=1.0)
    # Beside one mode; between both, where each of them alone would see a batch of the other one too.
    for middle in (MEAN + 4.0, MEAN - 10.0):
        found = pulls_of(two_modes, middle + noise)
        assert conflict(found.observed, found.simulated).p < 1e-4


def test_p_is_uniform_over_batches_of_a_mixture(
    two_modes: MatchedPrior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulls, "_MOST", 250)
    rng, p, signed = np.random.default_rng(8), [], []
    for mu, log_sd in two_modes.map.sample(rng, 40):
        found = pulls_of(two_modes, rng.normal(mu, np.exp(log_sd), ROWS))
        compared = conflict(found.observed, found.simulated)
        p.append(compared.p)
        signed.append(compared.pulls)
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert all(stats.kstest(column, "norm").pvalue > 0.01 for column in np.array(signed).T)


def potential(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as found:
        mu = pm.Normal("mu")
        pm.Normal("y", mu, 1.0, observed=frame["y"].to_numpy())
        pm.Potential("more", -(mu**2))
    return found


def local(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as found:
        mu = pm.Normal("mu")
        theta = pm.Normal("theta", mu, 1.0, shape=len(frame))
        pm.Normal("y", theta, 1.0, observed=frame["y"].to_numpy())
    return found


def lagged(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as found:
        y, mu = pm.Data("values", frame["y"].to_numpy()), pm.Normal("mu")
        pm.Normal("y", mu * y[:-1], 1.0, observed=y[1:])
    return found


def doubled(frame: pd.DataFrame) -> pm.Model:
    with pm.Model() as found:
        y, mu = pm.Data("values", frame["y"].to_numpy()), pm.Normal("mu")
        pm.Normal("y", mu + 0.1 * y, 1.0, observed=y)
    return found


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (potential, "a potential is part of the likelihood"),
        (local, "local variables"),
        (lagged, "the outcomes of y are computed"),
        (doubled, "used elsewhere in the model"),
    ],
)
def test_outcomes_that_cannot_be_replaced_are_said(function: Callable[..., pm.Model], why: str) -> None:
    declaration = declared(function, potentials={"more": "likelihood"} if function is potential else {})
    graph = take_apart(declaration, build(declaration, frame_of(np.zeros(9))), ("mu",))
    item = target(graph, genesis=True)

    def compiled() -> Any:
        raise AssertionError("nothing is compiled for a reason")

    places = Outcomes(graph, item, compiled, ()).places()
    assert isinstance(places, str)
    assert why in places


def test_outcomes_that_cannot_be_drawn_are_said(
    belief: MatchedPrior,
) -> None:
    def none(_belief: MatchedPrior, _seed: int, _size: int) -> dict[str, np.ndarray]:
        raise NotImplementedError("this distribution has no random function")

    found = simulate(problem_of(belief, np.zeros(ROWS)), belief, none, 1)
    assert found == "its outcomes cannot be drawn (NotImplementedError)"


def test_whole_numbers_stay_whole_where_the_data_are() -> None:
    def counts(frame: pd.DataFrame) -> pm.Model:
        with pm.Model() as found:
            mu = pm.Normal("mu")
            pm.Normal("y", mu, 1.0, observed=pm.Data("values", frame["y"].to_numpy().astype(int)))
        return found

    declaration = declared(counts)
    graph = take_apart(declaration, build(declaration, frame_of(np.arange(9))), ("mu",))
    item = target(graph, genesis=True)
    places = Outcomes(graph, item, lambda: None, ()).places()  # type: ignore[arg-type, return-value]
    assert isinstance(places, dict)
    assert item.data_values[places["y"]].dtype.kind == "i"
    again = replace(item, data_values=())
    assert again.sources == item.sources
