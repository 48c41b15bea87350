"""Several batches in one target: its density and slope, state, labels that come and go."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from scipy import stats

from lindley.batch.batch import batch_from_frame
from lindley.cache import Recent
from lindley.errors import CoordinatesMismatch, ModelRefused
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.memory_chain import MemoryChain, advance
from lindley.inference.sampling import FitSettings
from lindley.inference.step import fit, step
from lindley.model.coordinates import Coordinates
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal
from lindley.target import prepare
from lindley.target.engine import Function
from lindley.timing import Phases
from tests.lindley.inference.test_step import known_noise
from tests.lindley.prior.test_triangular import random_map

SETTINGS = FitSettings(draws=600, tune=300)
NOISE = 0.5
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("y", pa.float64(), nullable=False),
    ]
)


def declared(build, carried, *, carry=None, **policy) -> Declaration:
    return Declaration(
        name="chain",
        build=build,
        schema=SCHEMA,
        row_key=("id",),
        carried=carried,
        carry=carry or {},
        policy=Policy(**policy),
    )


def batches_of(declaration, groups, rng, means=None):
    """One batch per text of groups, one row per letter."""
    found = []
    for number, text in enumerate(groups):
        mean = 0.0 if means is None else means[number]
        frame = pd.DataFrame(
            {
                "id": 100 * number + np.arange(len(text)),
                "group": list(text),
                "y": rng.normal(mean, 1, len(text)),
            }
        )
        found.append(batch_from_frame(frame, declaration))
    return found


def prepared(declaration, batches, prior=None, whitener=None):
    return prepare.prepare(
        prior, batches, declaration, declaration.carried, Phases(), None, whitener=whitener
    )


def holds(draws, mean, sd, ess):
    """Hold draws [chain, draw, coordinate] of a normal against its means and sds."""
    assert (ess > 400).all()
    assert (np.abs(draws.mean(axis=(0, 1)) - mean) < 5 * sd / np.sqrt(ess)).all()
    assert (np.abs(draws.std(axis=(0, 1)) / sd - 1) < 5 / np.sqrt(2 * ess)).all()


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


TOP, SPREAD = 2.0, 1.0


def hierarchy(batch: pd.DataFrame) -> pm.Model:
    """A mean for each label of the batch around a common one; all widths known."""
    groups = sorted(set(batch["group"]))
    with pm.Model(coords={"group": groups}) as model:
        top = pm.Normal("top", 0, TOP)
        theta = pm.Normal("theta", top, SPREAD, dims="group")
        which = pm.Data("which", batch["group"].map(groups.index).to_numpy())
        pm.Normal("y", theta[which], NOISE, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def exact_hierarchy(batches):
    """Mean and covariance of top and the means of labels a, b, c after some batches."""
    precision, weighted = np.zeros((4, 4)), np.zeros(4)
    precision[0, 0] = TOP**-2
    for g in (1, 2, 3):
        row = np.eye(4)[g] - np.eye(4)[0]
        precision += np.outer(row, row) / SPREAD**2
    for batch in batches:
        for group, value in zip(*(batch.frame()[name] for name in ("group", "y")), strict=True):
            g = 1 + "abc".index(group)
            precision[g, g] += NOISE**-2
            weighted[g] += value / NOISE**2
    covariance = np.linalg.inv(precision)
    return covariance @ weighted, covariance


def matches(belief, mean, covariance):
    """Hold a matched joint normal against exact moments by name: Stein's identities leave rounding only."""
    assert belief.matched.moments == "stein 3"
    assert belief.matched.map.normal
    names = belief.matched.coordinates.names
    where = [["top", "theta[a]", "theta[b]", "theta[c]"].index(name) for name in names]
    u = belief.matched.map.forward(np.concatenate([np.zeros((1, len(names))), np.eye(len(names))]))
    slope, sd = (u[1:] - u[0]).T, np.sqrt(np.diag(covariance))[where]
    np.testing.assert_allclose((u[0] - mean[where]) / sd, 0, atol=1e-6)
    found, exact = slope @ slope.T, covariance[np.ix_(where, where)]
    np.testing.assert_allclose(found / np.outer(sd, sd), exact / np.outer(sd, sd), atol=1e-6)


def test_labels_come_and_go_and_the_chain_is_the_joint_posterior():
    declaration = declared(hierarchy, ("top", "theta"), replay=0, family="normal")
    batches = batches_of(declaration, ["aabb", "bbcc", "aacc"], np.random.default_rng(6), means=[0, 4, -3])
    chain = MemoryChain()
    for seed, batch in enumerate(batches):
        data = Data(declaration=declaration, batches=(batch,), carried=("top", "theta"))
        chain, found = advance(chain, data, Options(seed=seed, settings=SETTINGS))
        matches(chain.head, *exact_hierarchy(batches[: seed + 1]))
    # The vanished label moved by its correlation with the others alone, and it did move.
    first, second = (exact_hierarchy(batches[:n])[0][1] for n in (1, 2))
    assert abs(second - first) > 0.1
    assert chain.beliefs[1].matched.coordinates.names == ["top", "theta[a]", "theta[b]", "theta[c]"]
    mean, covariance = exact_hierarchy(batches)
    assert found.problem.coordinates.names == ["top", "theta[a]", "theta[b]", "theta[c]"]
    holds(
        found.sampled.sampling.points,
        mean,
        np.sqrt(np.diag(covariance)),
        found.sampled.sampling.convergence.ess_bulk,
    )


def test_the_prior_of_a_new_label_is_the_hierarchys_predictive_distribution():
    declaration = declared(hierarchy, ("top", "theta"), replay=0, family="normal")
    batches = batches_of(declaration, ["aabb", "bbcc"], np.random.default_rng(6), means=[0, 4])
    one, two = (Data(declaration=declaration, batches=(b,), carried=("top", "theta")) for b in batches)
    first = fit(Start(), one, Options(seed=0, settings=SETTINGS)).belief
    _, info = step(Start(prior=first), two, Options(seed=1, settings=SETTINGS))
    mean, covariance = exact_hierarchy(batches[:1])
    # Without a row of its own, c is drawn around the common mean: exactly the joint normal's c.
    assert covariance[3, 3] == pytest.approx(covariance[0, 0] + SPREAD**2)
    prior = info.trace["prior"].dataset
    drawn = np.column_stack([prior["top"].values.ravel(), prior["theta"].values.reshape(-1, 2)])
    assert prior["group"].values.tolist() == ["b", "c"]
    where, count = [0, 2, 3], len(drawn)
    sd = np.sqrt(np.diag(covariance))[where]
    assert (np.abs(drawn.mean(axis=0) - mean[where]) < 5 * sd / np.sqrt(count)).all()
    exact = covariance[np.ix_(where, where)] / np.outer(sd, sd)
    # A sample covariance of normals has variance (1 + r^2) / n in units of the sds.
    error = np.sqrt((1 + exact**2) / count)
    assert (np.abs(np.cov(drawn.T) / np.outer(sd, sd) - exact) < 5 * error).all()


def joint_prior(batch: pd.DataFrame) -> pm.Model:
    """Labels whose means have a joint prior that cannot be divided."""
    groups = sorted(set(batch["group"]))
    with pm.Model(coords={"group": groups}) as model:
        theta = pm.MvNormal("theta", np.zeros(len(groups)), np.eye(len(groups)) + 1, dims="group")
        which = pm.Data("which", batch["group"].map(groups.index).to_numpy())
        pm.Normal("y", theta[which], NOISE, observed=pm.Data("values", batch["y"].to_numpy()))
    return model


def test_new_labels_that_cannot_be_given_a_prior_are_refused():
    rng = np.random.default_rng(7)
    joint = declared(joint_prior, ("theta",))
    with pytest.raises(CoordinatesMismatch, match=r"(?s)new labels and a joint prior.*new theta\[c\]"):
        prepared(joint, batches_of(joint, ["ab", "bc"], rng))
    robust = declared(hierarchy, ("top", "theta"), robust=0.2)
    older, newer = batches_of(robust, ["ab", "bc"], rng)
    coordinates: Coordinates = prepared(robust, [older]).coordinates
    prior = MatchedPrior(coordinates, joint_normal(np.zeros(3), np.eye(3)))
    with pytest.raises(ModelRefused, match="robust mixture of chain cannot be used here"):
        prepared(robust, [newer], prior)
