"""Forgetting: refusals, exact precisions under a discount, time that passes, and grids that choose."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytest
from scipy import stats

from lindley.batch.batch import batch_from_frame
from lindley.errors import DeclarationRefused
from lindley.inference import forgetting
from lindley.inference.inputs import Data, Options
from lindley.inference.memory_chain import MemoryChain, advance
from lindley.inference.sampling import FitSettings
from lindley.model.coordinates import Block, Coordinates
from lindley.model.declaration import Declaration
from lindley.model.policy import REST, Forgetting, Policy
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal

NOISE, MEAN, WIDTH = 0.5, 1.0, 2.0
CARRIED = ("mu", "nu")
GRID = (0.3, 0.6, 1.0)
#: Where a batch is in so much conflict with a belief at 1 that the robust component takes half of it.
CONFLICT = 2.4
SETTINGS = FitSettings(draws=600, tune=300)
SCHEMA = pa.schema(
    [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("of_mu", pa.bool_(), nullable=False),
        pa.field("y", pa.float64(), nullable=False),
        pa.field("day", pa.timestamp("us")),
    ]
)


def two_means(batch: pd.DataFrame) -> pm.Model:
    """Two means with known noise, each with its own rows."""
    with pm.Model() as model:
        mu, nu = pm.Normal("mu", MEAN, WIDTH), pm.Normal("nu", MEAN, WIDTH)
        of_mu = pm.Data("of_mu_values", batch["of_mu"].to_numpy().astype(float))
        mean = mu * of_mu + nu * (1 - of_mu)
        pm.Normal("y", mean, NOISE, observed=pm.Data("y_values", batch["y"].to_numpy()))
    return model


def declared(**forget: Forgetting) -> Declaration:
    return Declaration(
        name="chain",
        build=two_means,
        schema=SCHEMA,
        row_key=("id",),
        carried=CARRIED,
        policy=Policy(
            # A joint normal is exact here.
            family="normal",
            forget={REST if name == "rest" else name: group for name, group in forget.items()},
        ),
    )


def rows(rng, mean, start=0, count=4, day="2020-01-01") -> pd.DataFrame:
    """`count` rows of mu, which is at `mean`, and as many of nu, which stays at 1."""
    of_mu = np.repeat([True, False], count)
    y = np.where(of_mu, mean, 1.0) + rng.normal(0, NOISE, 2 * count)
    ids = np.arange(start, start + 2 * count)
    return pd.DataFrame({"id": ids, "of_mu": of_mu, "y": y, "day": pd.Timestamp(day)})


def run(declaration, frames, settings=SETTINGS):
    chain, fits = MemoryChain(), []
    for seed, frame in enumerate(frames):
        batch = batch_from_frame(frame, declaration)
        data = Data(declaration=declaration, batches=(batch,), carried=CARRIED)
        chain, found = advance(chain, data, Options(seed=seed, settings=settings))
        fits.append(found)
    return chain, fits


class Exact:
    """The conjugate recursion of one mean: precision and mean before and after batches."""

    def __init__(self):
        self.precision, self.mean = WIDTH**-2, MEAN

    def predict(self, y, discount):
        """Return the log predictive density of values under a discount."""
        covariance = NOISE**2 * np.eye(len(y)) + 1 / (discount * self.precision)
        return float(stats.multivariate_normal(np.full(len(y), self.mean), covariance).logpdf(y))

    def learn(self, y, discount):
        before = discount * self.precision
        self.precision = before + len(y) / NOISE**2
        self.mean = (before * self.mean + y.sum() / NOISE**2) / self.precision

    def after(self, y, discount):
        """Return the posterior under a discount, without learning."""
        other = Exact()
        other.precision, other.mean = self.precision, self.mean
        other.learn(y, discount)
        return stats.norm(other.mean, other.precision**-0.5)


def values(frame, of_mu):
    return frame.loc[frame["of_mu"] == of_mu, "y"].to_numpy()


def matched_moments(belief: Belief):
    """Mean and precision by variable of a belief that is a joint normal."""
    assert belief.matched.map.normal
    u = belief.matched.map.forward(np.concatenate([np.zeros((1, 2)), np.eye(2)]))
    slope = (u[1:] - u[0]).T
    precision = np.linalg.inv(slope @ slope.T).diagonal()
    return {name: (u[0, i], precision[i]) for i, name in enumerate(belief.matched.coordinates.names)}


# -- refusals -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"discount": 0.9, "grid": (0.9, 1.0)},
        {"discount": 0.9, "half_life": "3D", "time": "day"},
        {"discount": 0.0},
        {"discount": 1.1},
        {"discount": float("nan")},
        {"grid": (0.5, -0.5)},
        {"half_life": "3D"},
        {"discount": 0.9, "time": "day"},
    ],
)
def test_forgetting_takes_exactly_one_way_and_discounts_up_to_one(given):
    with pytest.raises(DeclarationRefused, match="Forgetting was refused"):
        Forgetting(**given)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"family": "cauchy"}, "family as one of"),
        ({"replay": -1}, "replay of at least 0"),
        ({"rebase_every": 0}, "rebase_every of at least 1"),
        ({"rebase_at_budget": 0.0}, "rebase_at_budget above 0"),
        ({"rebase_at_drift": 0.0}, "rebase_at_drift above 0"),
        ({"robust": 1.0}, "robust of at least 0 and below 1"),
        ({"conflict": "ignore"}, "conflict as warn or quarantine"),
        ({"forget": {"mu": Forgetting(discount=0.9)}, "rebase_every": 3}, "either forgetting or pooled"),
    ],
)
def test_a_policy_without_effect_is_refused(given: dict[str, Any], expected):
    with pytest.raises(DeclarationRefused, match=expected):
        Policy(**given)
    assert Policy(forget={"mu": Forgetting(discount=0.9)}).as_dict()["forget"] == {"mu": {"discount": 0.9}}


def test_forgetting_of_a_variable_that_is_not_carried_is_refused():
    with pytest.raises(DeclarationRefused, match=r"(?s)forgetting of carried variables: mu, nu.*sigma"):
        declared(sigma=Forgetting(discount=0.5))


# -- discounts ----------------------------------------------------------------------------------------


def belief_of(names, **known) -> Belief:
    coordinates = Coordinates(tuple(Block(name, (), (), "identity") for name in names))
    size = len(names)
    factor = np.linalg.cholesky(np.eye(size) + 0.5)
    return Belief(
        matched=MatchedPrior(coordinates, joint_normal(np.arange(size), factor)), budget=0.0, **known
    )


def test_a_fixed_discount_divides_the_precision_of_the_named_variable_alone():
    rng = np.random.default_rng(1)
    frames = [rows(rng, 1.0, 10 * i) for i in range(4)]
    chain, fits = run(declared(mu=Forgetting(discount=0.7)), frames)
    exact = {"mu": Exact(), "nu": Exact()}
    for number, (frame, belief, found) in enumerate(zip(frames, chain.beliefs, fits, strict=True)):
        exact["mu"].learn(values(frame, True), 0.7 if number else 1.0)
        exact["nu"].learn(values(frame, False), 1.0)
        assert found.belief.forgetting["discounts"] == ({"mu": 0.7} if number else {})
        # Calibrated moments of a normal posterior are exact.
        assert belief.matched.moments == "stein 3"
        for name, (mean, precision) in matched_moments(belief).items():
            assert precision == pytest.approx(exact[name].precision, rel=1e-6)
            assert mean == pytest.approx(exact[name].mean, abs=1e-6 / np.sqrt(precision))
        # The draws themselves, within their Monte Carlo error.
        points = found.sampled.sampling.points
        ess = found.sampled.sampling.convergence.ess_bulk
        assert (ess > 400).all()
        for i, name in enumerate(CARRIED):
            sd = exact[name].precision ** -0.5
            assert abs(points[..., i].mean() - exact[name].mean) < 5 * sd / np.sqrt(ess[i])
            assert abs(points[..., i].std() / sd - 1) < 5 / np.sqrt(2 * ess[i])


def test_a_belief_loses_half_its_precision_in_a_half_life():
    declaration = declared(mu=Forgetting(half_life="10D", time="day"))
    rng = np.random.default_rng(2)
    batch = batch_from_frame(rows(rng, 1.0, day="2020-01-25"), declaration)
    for before, discount in (("2020-01-15", 0.5), ("2020-01-22T12:00:00", 2**-0.25), ("2020-01-25", 1.0)):
        belief = belief_of(CARRIED, forgetting={"times": {"day": before}})
        assert forgetting.discounts(declaration, belief, batch) == {"mu": pytest.approx(discount)}
    # Late batches, and the first one that has a time, are met with the belief as it is.
    late = belief_of(CARRIED, forgetting={"times": {"day": "2020-03-01"}})
    for belief in (late, belief_of(CARRIED)):
        assert forgetting.discounts(declaration, belief, batch) == {"mu": 1.0}
    assert forgetting.kept_for_next(declaration, None, batch, {}) == {"times": {"day": "2020-01-25T00:00:00"}}


def test_a_half_life_by_a_column_without_times_is_refused():
    batch = batch_from_frame(rows(np.random.default_rng(3), 1.0), declared())
    with pytest.raises(DeclarationRefused, match="cannot be measured by the column 'hour'"):
        forgetting.newest(batch, "hour")
    frame = rows(np.random.default_rng(3), 1.0).assign(day=pd.NaT)
    with pytest.raises(DeclarationRefused, match="cannot be measured by the column 'day'"):
        forgetting.newest(batch_from_frame(frame, declared()), "day")


def test_only_the_named_variables_are_widened_and_correlations_stay():
    names = ("mu", "nu", "xi")
    matched = belief_of(names).matched
    z = np.concatenate([np.zeros((1, 3)), np.eye(3)])

    def covariance(prior):
        u = prior.map.forward(z)
        return (u[1:] - u[0]).T @ (u[1:] - u[0])

    for found, factors in (
        ({"nu": 0.25}, [1, 2, 1]),
        ({"nu": 0.25, REST: 0.04}, [5, 2, 5]),
        ({REST: 1.0}, [1, 1, 1]),
    ):
        wide = forgetting.widened(matched, found)
        np.testing.assert_allclose(covariance(wide), np.outer(factors, factors) * covariance(matched))
        np.testing.assert_allclose(wide.map.forward(z)[0], matched.map.forward(z)[0])


# -- grids --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def drifting():
    """Chains on a mean that moves by two noise sds with each batch: with a grid, and static."""
    rng = np.random.default_rng(4)
    frames = [rows(rng, 1.0 + step, 10 * step) for step in range(4)]
    return frames, run(declared(mu=Forgetting(grid=GRID)), frames), run(declared(), frames)


def score_error(belief_before: dict[str, Exact], frame, discounts, used):
    """Standard error of a grid's score: importance weights of 2,000 points 1.2 times as wide."""
    second = 1.0
    for name, exact in belief_before.items():
        y = values(frame, name == "mu")
        target, proposal = exact.after(y, discounts[name]), exact.after(y, used[name])
        u = np.linspace(-12, 12, 24_001) * 1.2 * proposal.std() + proposal.mean()
        wide = stats.norm(proposal.mean(), 1.2 * proposal.std())
        second *= np.trapezoid(np.exp(2 * target.logpdf(u) - wide.logpdf(u)), u)
    return np.sqrt((second - 1) / 2000)


def test_the_scores_of_a_grid_are_the_closed_form(drifting):
    frames, (chain, fits), _ = drifting
    exact = {"mu": Exact(), "nu": Exact()}
    totals = dict.fromkeys(GRID, 0.0)
    for number, (frame, found) in enumerate(zip(frames, fits, strict=True)):
        used = found.belief.forgetting["discounts"].get("mu", 1.0)
        if number == 0:
            assert found.belief.forgetting["scores"] == {}
        else:
            # The best one so far; the least forgetful before there are scores.
            assert used == max(GRID, key=lambda value: (totals[value], value))
            scores = found.belief.forgetting["scores"]["mu"]
            for value in GRID:
                closed = exact["mu"].predict(values(frame, True), value)
                closed += exact["nu"].predict(values(frame, False), 1.0)
                error = score_error(exact, frame, {"mu": value, "nu": 1.0}, {"mu": used, "nu": 1.0})
                assert error < 0.1
                assert abs(scores[repr(value)] - closed) < 5 * error, (number, value)
                totals[value] += scores[repr(value)]
                assert chain.beliefs[number].forgetting["totals"]["mu"][repr(value)] == pytest.approx(
                    totals[value]
                )
        exact["mu"].learn(values(frame, True), used if number else 1.0)
        exact["nu"].learn(values(frame, False), 1.0)


def test_a_grid_forgets_under_a_drifting_mean_and_predicts_better(drifting):
    frames, (chain, fits), (static, _) = drifting
    assert fits[-1].belief.forgetting["discounts"]["mu"] < 1
    assert chain.head is not None
    assert static.head is not None
    # Closed form of what forgetting gains with the discounts that were used.
    used = [found.belief.forgetting["discounts"].get("mu", 1.0) for found in fits]
    scores = {}
    for kind, by in (("static", [1.0] * 4), ("grid", used)):
        mu, nu, scores[kind] = Exact(), Exact(), 0.0
        for frame, discount in zip(frames, by, strict=True):
            for exact, y, own in ((mu, values(frame, True), discount), (nu, values(frame, False), 1.0)):
                scores[kind] += exact.predict(y, own)
                exact.learn(y, own)
    assert scores["grid"] - scores["static"] > 3
    # Matches of these normals are exact, and so is what they weigh: rounding only.
    assert chain.head.log_score == pytest.approx(scores["grid"], abs=1e-5)
    assert static.head.log_score == pytest.approx(scores["static"], abs=1e-5)


def test_scores_of_a_grid_outlive_a_batch_that_cannot_be_scored():
    declaration = declared(mu=Forgetting(grid=GRID))
    totals = {"mu": {"0.3": -5.0, "0.6": -4.0, "1.0": -9.0}}
    batch = batch_from_frame(rows(np.random.default_rng(5), 1.0), declaration)
    kept = forgetting.kept_for_next(declaration, belief_of(CARRIED, forgetting={"totals": totals}), batch, {})
    assert kept == {"totals": totals}
    later = belief_of(CARRIED, forgetting=kept)
    assert forgetting.discounts(declaration, later, batch) == {"mu": 0.6}


# -- robust mixtures ----------------------------------------------------------------------------------


def mixture(weight, older, newer):
    """Log weight, mean and variance [mean of mu and nu] of both components after a batch."""
    found = []
    for share, frames in ((1 - weight, [older]), (weight, [])):
        mu, nu, log_weight = Exact(), Exact(), np.log(share)
        for exact, of_mu in ((mu, True), (nu, False)):
            for frame in frames:
                exact.learn(values(frame, of_mu), 1.0)
            log_weight += exact.predict(values(newer, of_mu), 1.0)
            exact.learn(values(newer, of_mu), 1.0)
        found.append((log_weight, [mu.mean, nu.mean], [1 / mu.precision, 1 / nu.precision]))
    return (np.array(column) for column in zip(*found, strict=True))


def test_a_robust_mixture_is_the_exact_two_component_posterior_of_a_conflicting_batch():
    weight = 0.2
    declaration = replace(declared(), policy=Policy(robust=weight, family="normal"))
    rng = np.random.default_rng(6)
    frames = [rows(rng, 1.0), rows(rng, CONFLICT, 10, count=1)]
    _, (_, found) = run(declaration, frames, FitSettings(draws=1500, tune=400))
    log_weights, means, variances = mixture(weight, *frames)
    share = np.exp(log_weights - np.logaddexp(*log_weights))
    # Both components matter, and they are apart.
    assert 0.2 < share[0] < 0.8
    assert abs(means[0, 0] - means[1, 0]) > np.sqrt(variances[1, 0])
    mean = share @ means
    sd = np.sqrt(share @ (variances + (means - mean) ** 2))
    points, ess = found.sampled.sampling.points.reshape(-1, 2), found.sampled.sampling.convergence.ess_bulk
    assert (ess > 400).all()
    kurtosis = (((points - mean) / sd) ** 4).mean(axis=0)
    assert (np.abs(points.mean(axis=0) - mean) < 5 * sd / np.sqrt(ess)).all()
    assert (np.abs(points.std(axis=0) / sd - 1) < 5 * np.sqrt((kurtosis - 1) / (4 * ess))).all()
    metrics = found.assessment.metrics
    assert abs(metrics["log_predictive"] - np.logaddexp(*log_weights)) < 5 * metrics["log_predictive_se"]
