"""Several batches in one target: its density and slope, and state."""

import numpy as np
import pandas as pd
import pymc as pm
import pytest
from scipy import stats

from lindley.cache import Recent
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.step import fit
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal
from lindley.target import prepare
from lindley.target.engine import Function
from tests.lindley.inference.test_step import known_noise
from tests.lindley.prior.test_triangular import random_map
from tests.support.pooling import NOISE, SETTINGS, batches_of, declared, holds, prepared


def same_slope(bound, x, atol=1e-6):
    """Hold the gradient of a target against its differences."""
    value, gradient = bound.log_density(x.copy())
    differences = [
        (float(bound.log_density(x + d)[0]) - float(bound.log_density(x - d)[0])) / 2e-5
        for d in 1e-5 * np.eye(len(x))
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=atol * max(1, abs(float(value))))


# -- the target ---------------------------------------------------------------------------------------


def everything(batch: pd.DataFrame) -> pm.Model:
    """Carried state, a local effect per row, a scale, and a mean per label of the batch."""
    groups = sorted(set(batch["group"]))
    with pm.Model(coords={"group": groups, "row": batch["id"].to_numpy()}) as model:
        scale = pm.HalfNormal("scale", 1.0)
        theta = pm.Normal("theta", 0.5, scale, dims="group")
        x = pm.Normal("x", 0.0, 2.0)
        effect = pm.Normal("effect", x, 0.3, dims="row")
        which = pm.Data("which", batch["group"].map(groups.index).to_numpy())
        pm.Deterministic("x_end", 0.9 * x + scale * effect[-1] ** 2)
        pm.Normal("y", theta[which] * effect, NOISE, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def by_hand(names, u, locals_, batches, own):
    """The log density of `everything` from first principles; `own`: whether its own priors count by name."""
    point = dict(zip(names, u, strict=True))
    scale = np.exp(point["scale"])
    counted = {
        "scale": stats.halfnorm.logpdf(scale) + point["scale"],
        "x": stats.norm.logpdf(point["x"], 0, 2),
    } | {name: stats.norm.logpdf(point[name], 0.5, scale) for name in names if name.startswith("theta")}
    total = sum(value for name, value in counted.items() if name in own)
    x = point["x"]
    for batch, effect in zip(batches, locals_, strict=True):
        frame = batch.frame()
        theta = np.array([point[f"theta[{group}]"] for group in frame["group"]])
        total += stats.norm.logpdf(effect, x, 0.3).sum()
        total += stats.norm.logpdf(frame["y"], theta * effect, NOISE).sum()
        x = 0.9 * x + scale * effect[-1] ** 2
    return total


@pytest.mark.parametrize("genesis", [True, False])
def test_the_target_of_three_batches_is_that_of_first_principles_and_so_is_its_slope(genesis):
    declaration = declared(everything, ("scale", "theta", "x"), carry={"x": "x_end"})
    rng = np.random.default_rng(1)
    older, *batches = batches_of(declaration, ["zab", "abb", "bcb", "cad"], rng)
    prior = None
    if not genesis:
        coordinates = prepared(declaration, [older]).coordinates
        prior = MatchedPrior(coordinates, random_map(rng, coordinates.size))
    problem = prepared(declaration, batches, prior)
    assert problem.pooled == "terms"
    names = problem.coordinates.names
    labels = "abcd" if genesis else "abzcd"
    assert names == ["scale", *(f"theta[{label}]" for label in labels), "x"]
    assert problem.local_names[0].startswith("effect[100] (2 before)")
    known = () if prior is None else tuple(prior.coordinates.names)
    for _ in range(3):
        x = rng.normal(0, 0.5, problem.bound.size)
        same_slope(problem.bound, x)
        points = problem.points(x[None])[0]
        u, locals_ = points[: len(names)], points[len(names) :].reshape(3, 3)
        exact = by_hand(names, u, locals_, batches, set(names) - set(known))
        exact += stats.norm.logpdf(x[: len(known)]).sum()
        value, _ = problem.bound.log_density(x.copy())
        # PyMC takes logarithms of constants such as 0.5 in single precision: 2e-9 for each row.
        assert value == pytest.approx(exact, abs=1e-7)
        # Carried state has gone through all three batches; the other coordinates stay.
        end = u[-1]
        for effect in locals_:
            end = 0.9 * end + np.exp(u[0]) * effect[-1] ** 2
        carried = problem.bound.evaluate(x[None]).carried[0]
        np.testing.assert_allclose(carried, [*u[:-1], end], rtol=1e-10)


@pytest.mark.parametrize("genesis", [True, False])
def test_rows_together_and_batches_one_by_one_are_the_same_target(genesis, monkeypatch):
    declaration = declared(known_noise, ("mu",))
    rng = np.random.default_rng(2)
    batches = batches_of(declaration, ["aab", "bb", "abab"], rng)
    prior = None
    if not genesis:
        prior = MatchedPrior(prepared(declaration, batches[:1]).coordinates, random_map(rng, 2))
    together = prepared(declaration, batches, prior)
    monkeypatch.setattr(prepare, "_additive", Recent(1, lambda _: 1))
    prepare._additive.put(known_noise, False)
    apart = prepared(declaration, batches, prior)
    assert (together.pooled, apart.pooled) == ("rows", "terms")
    for x in rng.normal(0, 1, (5, 2)):
        one, two = (problem.bound.log_density(x.copy()) for problem in (together, apart))
        assert float(one[0]) == pytest.approx(float(two[0]), rel=1e-10)
        np.testing.assert_allclose(one[1], two[1], rtol=1e-9, atol=1e-9)


def standardised(batch: pd.DataFrame) -> pm.Model:
    """A slope on a predictor that means something else beside other rows."""
    with pm.Model() as model:
        slope = pm.Normal("slope", 0, 2)
        x = pm.Data("x_values", scaled(batch["id"].to_numpy()))
        pm.Normal("y", slope * x, NOISE, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def scaled(x):
    return (x - x.mean()) / x.std()


def test_a_model_that_standardises_by_its_batch_is_fitted_batch_by_batch():
    declaration = declared(standardised, ("slope",))
    batches = batches_of(declaration, ["aaa", "aaaa"], np.random.default_rng(3))
    problem = prepared(declaration, batches)
    assert problem.pooled == "terms"
    for slope in (-1.0, 0.3):
        exact = stats.norm.logpdf(slope, 0, 2)
        for batch in batches:
            frame = batch.frame()
            exact += stats.norm.logpdf(frame["y"], slope * scaled(frame["id"].to_numpy()), NOISE).sum()
        assert problem.bound.log_density(np.array([slope]))[0] == pytest.approx(exact, abs=1e-7)


def test_a_whitener_changes_the_space_and_not_the_target(monkeypatch):
    declaration = declared(known_noise, ("mu",))
    rng = np.random.default_rng(4)
    batches = batches_of(declaration, ["aab", "bb"], rng)
    plain = prepared(declaration, batches)
    whitener = MatchedPrior(
        plain.coordinates, joint_normal(np.array([1.0, -1.0]), np.array([[2, 0], [8, 0.5]]))
    )
    near = prepared(declaration, batches, whitener=whitener)
    for x in rng.normal(0, 1, (5, 2)):
        u = whitener.map.forward(x)
        value = float(plain.bound.log_density(u.copy())[0])
        # The density of x is that of u times the slope of the whitening, here 2 * 0.5 = 1.
        assert float(near.bound.log_density(x.copy())[0]) == pytest.approx(value, rel=1e-10)
        same_slope(near.bound, x)
    # The map goes around the function that there is.
    assert near.digest == plain.digest
    assert near.compiled_before
    points = rng.normal(0, 1, (3, 2))
    values = [p.bound.evaluate(x) for p, x in ((plain, whitener.map.forward(points)), (near, points))]
    for one, two in zip(*(found.flat() for found in values), strict=True):
        np.testing.assert_allclose(one, two)
    monkeypatch.setattr(Function, "is_native", False)
    python = prepared(declaration, batches, whitener=whitener)
    assert python.bound.density is None
    for one, two in zip(near.bound.log_densities(points), python.bound.log_densities(points), strict=True):
        np.testing.assert_allclose(one, two)


# -- exact posteriors ---------------------------------------------------------------------------------

PHI, STEP, ROWS = 0.8, 0.6, 2


def state_space(batch: pd.DataFrame) -> pm.Model:
    """A level, and a state around it that is followed through the rows of a batch."""
    power = np.arange(1, ROWS + 1)
    gather = np.tril(PHI ** (power[:, None] - power[None, :]).clip(0)) * STEP
    with pm.Model(coords={"row": batch["id"].to_numpy()}) as model:
        level = pm.Normal("level", 0, 2)
        x = pm.Normal("x", 0, 1)
        noise = pm.Normal("noise", 0, 1, dims="row")
        path = PHI**power * x + pm.math.dot(gather, noise)
        pm.Deterministic("x_end", path[-1])
        pm.Normal("y", level + path, NOISE, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def smoother(y):
    """Mean and covariance of level, x before the first row and x after every row, given values [row]."""
    size = len(y) + 2
    precision, weighted = np.zeros((size, size)), np.zeros(size)

    def add(row, value, sd):
        precision[:] += np.outer(row, row) / sd**2
        weighted[:] += row * value / sd**2

    unit = np.eye(size)
    add(unit[0], 0, 2)
    add(unit[1], 0, 1)
    for t, value in enumerate(y):
        add(unit[t + 2] - PHI * unit[t + 1], 0, STEP)
        add(unit[0] + unit[t + 2], value, NOISE)
    covariance = np.linalg.inv(precision)
    return covariance @ weighted, covariance


def test_a_state_space_model_pooled_over_four_batches_is_the_kalman_smoother():
    declaration = declared(state_space, ("level", "x"), carry={"x": "x_end"}, family="normal")
    batches = batches_of(declaration, ["a" * ROWS] * 4, np.random.default_rng(5), means=[0, 1, 3, 2])
    data = Data(declaration=declaration, batches=tuple(batches), carried=("level", "x"))
    found = fit(Start(), data, Options(seed=1, settings=SETTINGS))
    assert found.problem.pooled == "terms"
    y = np.concatenate([batch.frame()["y"] for batch in batches])
    mean, covariance = smoother(y)
    sd = np.sqrt(np.diag(covariance))
    points, ess = found.sampled.sampling.points, found.sampled.sampling.convergence.ess_bulk
    holds(points[..., :2], mean[:2], sd[:2], ess[:2])
    # All states, from where it began and the noises of four batches.
    path, x = [], points[..., 1]
    for t in range(len(y)):
        x = PHI * x + STEP * points[..., 2 + t]
        path.append(x)
    holds(np.stack(path, axis=-1), mean[2:], sd[2:], np.full(len(y), ess.min()))
    # The filtered end is carried forward, jointly with the level.
    ends = [0, len(mean) - 1]
    holds(found.draws.quantities.carried, mean[ends], sd[ends], np.full(2, ess.min()))
    correlation = covariance[np.ix_(ends, ends)] / np.outer(sd[ends], sd[ends])
    drawn = np.corrcoef(found.draws.quantities.carried.reshape(-1, 2).T)[0, 1]
    assert abs(drawn - correlation[0, 1]) < 5 * (1 - correlation[0, 1] ** 2) / np.sqrt(ess.min())
