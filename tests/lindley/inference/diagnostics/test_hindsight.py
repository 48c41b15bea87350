"""Quality of a match, and how much it shifted the fit that started from it, against quadrature."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import digamma, polygamma

from lindley.inference.diagnostics import hindsight
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.diagnostics.importance import Importance
from lindley.inference.diagnostics.match_quality import match_distances, match_doubts
from lindley.model.coordinates import Block, Coordinates
from lindley.prior.belief import Belief, Harm
from lindley.prior.matched import MatchedPrior
from lindley.prior.triangular import joint_normal

COUNT = 1000
SHAPE = 2.0


def shift(draws, used, exact):
    """The shift of the coordinates themselves."""
    return hindsight.shift(draws, draws, exact(draws) - used.log_density(draws))


def in_posterior_sds(found):
    """Its largest parts, the mean in sds of the posterior, whatever it would be without the match."""
    return np.abs(found.mean * np.exp(np.minimum(found.log_sd, 0))).max(), np.abs(found.log_sd).max()


def normal_of(mean, covariance):
    return joint_normal(np.asarray(mean, float), np.linalg.cholesky(np.atleast_2d(covariance)))


# -- hindsight ----------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.floats(-1000, 1000))
def test_a_perfect_match_moved_nothing(seed, size, constant):
    rng = np.random.default_rng(seed)
    used = normal_of(rng.normal(0, 1, size), np.eye(size) + 0.5)
    found = shift(rng.normal(1, 2, (COUNT, size)), used, lambda u: used.log_density(u) + constant)
    assert found.largest == pytest.approx(0, abs=1e-9)
    assert found.efficiency == pytest.approx(1)


class Conflict:
    """A log-gamma belief matched by the normal of its moments, then a batch far from it."""

    mean, sd = float(digamma(SHAPE)), float(np.sqrt(polygamma(1, SHAPE)))
    used = normal_of([mean], [[sd**2]])
    batch = stats.norm(mean + 3 * sd, 0.5 * sd)
    grid = np.linspace(-8, 8, 100_001)

    @staticmethod
    def exact(u):
        return stats.loggamma.logpdf(u[:, 0], SHAPE)

    def after(self, prior):
        """Weights [point] of the posterior on the grid under a prior's log density."""
        log_density = prior(self.grid[:, None]) + self.batch.logpdf(self.grid)
        weights = np.exp(log_density - log_density.max())
        return weights / weights.sum()

    def truth(self):
        """By how much the match moved mean and log sd, in sds of the posterior that it led to."""
        moments = []
        for prior in (self.used.log_density, self.exact):
            weights = self.after(prior)
            mean = weights @ self.grid
            moments.append((mean, np.sqrt(weights @ (self.grid - mean) ** 2)))
        (mean, sd), (exact_mean, exact_sd) = moments
        return abs(exact_mean - mean) / sd, abs(np.log(exact_sd / sd))

    def draws(self, rng):
        return np.interp(rng.uniform(size=COUNT), np.cumsum(self.after(self.used.log_density)), self.grid)


def test_the_shift_of_a_skewed_belief_is_that_of_quadrature():
    conflict, rng, replicates = Conflict(), np.random.default_rng(1), 100
    found = [shift(conflict.draws(rng)[:, None], conflict.used, conflict.exact) for _ in range(replicates)]
    values = np.array([in_posterior_sds(f) for f in found])
    truth = np.array(conflict.truth())
    assert truth.min() > 0.1
    assert 0.3 < np.mean([f.efficiency for f in found]) < 0.98
    # A quotient's bias is of the order of 1 / n.
    error = values.std(axis=0) / np.sqrt(replicates)
    assert (np.abs(values.mean(axis=0) - truth) < 5 * error + 5 / COUNT).all(), (values.mean(axis=0), truth)
    # One by itself is as sure as its draws: better than a tenth of an sd.
    assert (np.abs(values[0] - truth) < 5 * values.std(axis=0)).all()
    assert (values.std(axis=0) < 0.1).all()
    assert found[0].largest == max(np.abs(found[0].mean).max(), values[0, 1])
    # Its own standard error is theirs.
    errors = [[f.mean_error[0] * np.exp(f.log_sd[0]), f.log_sd_error[0]] for f in found]
    assert np.mean(errors, axis=0) == pytest.approx(values.std(axis=0), rel=0.3)


def test_the_shift_is_the_largest_over_coordinates():
    conflict, rng = Conflict(), np.random.default_rng(2)
    one = conflict.draws(rng)
    alone = shift(one[:, None], conflict.used, conflict.exact)
    used = normal_of([0.0, conflict.mean], np.diag([1.0, conflict.sd**2]))
    both = shift(
        np.column_stack([rng.standard_normal(COUNT), one]),
        used,
        lambda u: stats.norm.logpdf(u[:, 0]) + conflict.exact(u[:, 1:]),
    )
    assert both.mean[1] == pytest.approx(alone.mean[0])
    assert both.log_sd[1] == pytest.approx(alone.log_sd[0])
    assert both.largest == pytest.approx(alone.largest)


def test_the_shift_is_measured_for_the_given_values():
    conflict, rng = Conflict(), np.random.default_rng(9)
    draws = conflict.draws(rng)[:, None]
    log_ratio = conflict.exact(draws) - conflict.used.log_density(draws)
    weights = np.exp(log_ratio - log_ratio.max())
    weights /= weights.sum()
    natural = np.exp(2 * draws[:, 0])
    moved = weights @ natural
    exact = [abs(moved - natural.mean()) / natural.std()]
    exact += [abs(np.log(np.sqrt(weights @ (natural - moved) ** 2) / natural.std()))]
    # What does not move is not moved either.
    values = np.column_stack([natural, np.full(COUNT, 3.0)])
    found = hindsight.shift(draws, values, log_ratio)
    assert list(in_posterior_sds(found)) == pytest.approx(exact)
    assert (found.mean[1], found.log_sd[1]) == (0, 0)
    assert found.mean[0] != pytest.approx(shift(draws, conflict.used, conflict.exact).mean[0], rel=0.01)


@pytest.mark.parametrize("impossible", [-np.inf, np.nan])
def test_draws_that_the_earlier_batches_exclude_count_nothing(impossible):
    rng = np.random.default_rng(3)
    draws, used = rng.standard_normal((COUNT, 1)), normal_of([0.0], [[1.0]])
    found = shift(draws, used, lambda u: np.where(u[:, 0] > 0, used.log_density(u), impossible))
    left = draws[draws > 0]
    moved, narrowed = in_posterior_sds(found)
    assert moved == pytest.approx(abs(left.mean() - draws.mean()) / draws.std())
    assert narrowed == pytest.approx(abs(np.log(left.std() / draws.std())))
    assert found.efficiency == pytest.approx(len(left) / COUNT)


def test_a_belief_that_excludes_all_draws_is_infinitely_far():
    draws = np.random.default_rng(4).standard_normal((COUNT, 2))
    found = shift(draws, normal_of(np.zeros(2), np.eye(2)), lambda u: np.full(len(u), -np.inf))
    assert (found.largest, found.efficiency, found.saturated) == (hindsight.FARTHEST, 0.0, True)


@pytest.mark.parametrize(("distance", "narrower"), [(0.5, 1.0), (3.0, 1.0), (12.0, 0.7), (12.0, 2.0)])
def test_a_shift_beyond_the_draws_is_extrapolated_and_said_to_be_no_measure(distance, narrower):
    """Normals: the exact posterior lies `distance` sds away, along one direction of three."""
    rng = np.random.default_rng(11)
    factor = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [-0.3, 0.2, 2.0]])
    used = joint_normal(np.zeros(3), factor)
    exact = joint_normal(factor @ [distance, 0, 0], factor @ np.diag([narrower, 1, 1]))
    found = shift(used.sample(rng, 2000), used, exact.log_density)
    assert found.saturated == (distance > 1.5 or narrower < 0.75)
    if found.saturated:
        sds = np.linalg.norm(factor @ np.diag([narrower, 1, 1]), axis=1) / np.linalg.norm(factor, axis=1)
        truth = factor[:, 0] * distance / np.linalg.norm(factor, axis=1) / np.minimum(sds, 1)
        assert found.mean == pytest.approx(truth, rel=0.15, abs=0.5)
        assert found.log_sd == pytest.approx(np.log(sds), abs=0.15)
    else:
        assert (np.abs(found.mean - [0.5, 0.4, -0.075]) < 5 * found.mean_error + 0.05).all()


@given(st.lists(st.integers(1, 50), min_size=1, max_size=12), st.integers(1, 200))
def test_segments_leave_sight_by_half_and_the_newest_never(rows, most):
    kept = hindsight.kept_in_sight(rows, most)
    assert 1 <= kept <= len(rows)
    if sum(rows) <= most:
        assert kept == len(rows)
    else:
        assert kept == 1 or sum(rows[:kept]) <= most / 2


def normal_belief(mean, covariance, unseen):
    names = tuple(f"x{i}" for i in range(len(mean)))
    coordinates = Coordinates(tuple(Block(name, (), (), "", ()) for name in names))
    return Belief(MatchedPrior(coordinates, normal_of(mean, covariance)), 0.0, unseen=unseen)


def test_harm_out_of_sight_follows_the_belief_as_normals_do():
    """A prior with a wrong mean and precision, a batch, both normal: the error of the posterior is exact."""
    rng = np.random.default_rng(12)
    wrong, right = np.array([[1.0, 0.4], [0.4, 0.8]]), np.array([[1.0, 0.4], [0.4, 0.8]])
    error = np.array([0.3, -0.2])
    data, mean = np.linalg.inv(np.array([[0.5, -0.1], [-0.1, 0.2]])), np.array([1.0, 2.0])

    def posterior(prior_mean, prior):
        covariance = np.linalg.inv(np.linalg.inv(prior) + data)
        return covariance @ (np.linalg.solve(prior, prior_mean) + data @ mean), covariance

    found, covariance = posterior(np.zeros(2), wrong)
    exact, _ = posterior(error, right)
    sd = np.sqrt(np.diag(wrong))
    unseen = Harm(dict(zip(("x0", "x1"), (error / sd).tolist(), strict=True)))
    belief = normal_belief([0, 0], wrong, unseen)
    points = joint_normal(found, np.linalg.cholesky(covariance)).sample(rng, 20_000)
    moved, changed = hindsight.carried_on(belief, ["x0", "x1"], points)
    assert moved == pytest.approx((exact - found) / np.sqrt(np.diag(covariance)), abs=0.03)
    assert not changed.any()


def test_an_error_of_the_sd_out_of_sight_moves_a_belief_that_moves():
    rng = np.random.default_rng(13)
    belief = normal_belief([0.0], [[1.0]], Harm({"x0": 0.0}, {"x0": 0.05}))
    # The batch is a normal of precision 3 about 4: the posterior has precision 4 and mean 3.
    points = joint_normal(np.array([3.0]), np.array([[0.5]])).sample(rng, 20_000)
    moved, changed = hindsight.carried_on(belief, ["x0"], points)
    exact = 1 / np.exp(0.1) + 3
    assert moved[0] == pytest.approx((12 / exact - 3) / 0.5, abs=0.05)
    assert changed[0] == pytest.approx(np.log(0.5**-1 / np.sqrt(exact)), abs=0.005)


def test_drift_does_not_change_when_a_match_leaves_sight():
    """The harm of the two oldest of three matches is measured; the next fit looks at the newest alone."""
    rng = np.random.default_rng(14)
    points = rng.standard_normal((2000, 2))
    values = np.column_stack([points, np.exp(points[:, :1])])
    ratios = np.array([points @ [0.02, 0.01], points @ [0.1, -0.2], points @ [0.15, 0.1]])
    names = ["x0", "x1"]
    belief = normal_belief([0, 0], np.eye(2), Harm())
    before = hindsight.view(points, values, ratios, names, belief, 3)
    leaving = hindsight.view(points, values, ratios, names, belief, 1)
    assert leaving.drift == before.drift
    assert (before.unseen, leaving.sight) == (Harm(), 1)
    later = hindsight.view(points, values, ratios[:1], names, replace(belief, unseen=leaving.unseen), 1)
    # Nothing has moved but the view: coordinates have the same error, up to the noise of the belief's draws.
    assert later.moved.mean[:2] == pytest.approx(before.moved.mean[:2], abs=0.02)
    assert later.drift >= before.drift - 0.02
    assert later.drift > 0.2 > 5 * later.shift.largest


def test_what_cannot_be_followed_any_more_stays():
    belief = normal_belief([0.0], [[1.0]], Harm(rest=0.3))
    points = np.random.default_rng(15).standard_normal((500, 1))
    found = hindsight.view(points, points, np.zeros((1, 500)), ["x0"], belief, 1)
    assert found.drift == pytest.approx(0.3)
    assert found.unseen.rest == 0.3


# -- quality ------------------------------------------------------------------------------------------

DRAWS, SAMPLE = 10_000, 20_000
#: Mean Wasserstein-1 distance of two samples of one normal, in sds, is below this; see `floor_of`.
FLOOR = np.sqrt(1 / DRAWS + 1 / SAMPLE)


def floor_of():
    """E|B(Phi(x))| integrated over x: the limit of sqrt(n) times the distance of two samples."""
    x = np.linspace(-8, 8, 20_001)
    share = stats.norm.cdf(x)
    return float(np.trapezoid(np.sqrt(2 / np.pi * share * (1 - share)), x))


def equal(count):
    return np.full(count, 1 / count)


def test_a_perfect_match_is_at_the_sampling_floor():
    rng = np.random.default_rng(5)
    matched = normal_of([1.0, -2.0], [[4.0, 1.0], [1.0, 0.5]])
    distances, moment = match_distances(matched.sample(rng, DRAWS), equal(DRAWS), matched, rng)
    # The distance has an sd of less than its mean.
    assert (distances < 5 * floor_of() * FLOOR).all()
    # Third moments and quarters of excess kurtosis have sds of at most sqrt(15 / n).
    assert moment < 5 * np.sqrt(15 / DRAWS)


def test_a_displaced_margin_reads_its_displacement_in_sds():
    rng = np.random.default_rng(6)
    matched = normal_of([1.0, -2.0], [[4.0, 1.0], [1.0, 0.5]])
    draws = matched.sample(rng, DRAWS) + np.array([0.0, 0.3 * np.sqrt(0.5)])
    distances, _ = match_distances(draws, equal(DRAWS), matched, rng)
    assert distances[0] < 5 * floor_of() * FLOOR
    # Of two shifted samples of one shape it is the difference of the means.
    assert distances[1] == pytest.approx(0.3, abs=5 * FLOOR)


def test_distances_go_by_the_weights():
    rng = np.random.default_rng(7)
    matched = normal_of([0.0], [[1.0]])
    first = matched.sample(rng, DRAWS)
    draws = np.concatenate([first, first + 5])
    weights = np.concatenate([equal(DRAWS), np.zeros(DRAWS)])
    distances, moment = match_distances(draws, weights, matched, rng)
    # In sds of all draws.
    assert distances[0] * draws.std() < 5 * floor_of() * FLOOR
    assert moment < 5 * np.sqrt(15 / DRAWS)
    assert match_distances(draws, equal(2 * DRAWS), matched, rng)[0][0] * draws.std() > 2


def test_the_moment_detects_a_shape_that_margins_do_not_show():
    rng = np.random.default_rng(8)
    # Signs that multiply to one: margins and covariance are those of a normal, the third moment is not.
    size = np.abs(rng.standard_normal((DRAWS, 3)))
    sign = rng.choice([-1, 1], (DRAWS, 2))
    draws = size * np.column_stack([sign, sign.prod(axis=1)])
    distances, moment = match_distances(draws, equal(DRAWS), normal_of(np.zeros(3), np.eye(3)), rng)
    assert (distances < 5 * floor_of() * FLOOR).all()
    exact = np.sqrt(2 / np.pi) ** 3
    assert moment == pytest.approx(exact, abs=5 * np.sqrt(1 / DRAWS))


def quality(efficiency=1.0, assessable=True, distance=0.0, moment=0.0):
    importance = Importance(0.9, efficiency, 0.0, 0.0) if assessable else None
    return partial(match_doubts, importance, np.array([0.0, distance]), moment)


@pytest.mark.parametrize(
    ("found", "word"),
    [
        (quality(efficiency=0.5), "efficiency 0.50"),
        (quality(distance=0.3), "margin of the matched prior off by 0.300"),
        (quality(distance=np.nan), "margin of the matched prior off by nan"),
        (quality(assessable=False, distance=0.3), "margin of the matched prior off by 0.300"),
        (quality(assessable=False, moment=0.8), "third moment 0.80"),
        (quality(assessable=False, moment=np.nan), "third moment nan"),
    ],
)
def test_doubts_name_what_exceeds_its_threshold_and_only_that(found, word):
    thresholds = Thresholds(efficiency_trust=0.9, distance_trust=0.1, moment_trust=0.5)
    (doubt,) = found(thresholds)
    assert word in doubt
    assert not found(Thresholds(efficiency_trust=0.4, distance_trust=np.inf, moment_trust=np.inf)) or (
        "nan" in doubt
    )


def test_both_doubts_are_named_and_a_good_match_has_none():
    thresholds = Thresholds(efficiency_trust=0.9, distance_trust=0.1, moment_trust=0.5)
    assert quality(efficiency=0.9, distance=0.1, moment=9.0)(thresholds) == ()
    # Where importance sampling does not assess the match, the moment decides.
    assert quality(assessable=False, efficiency=0.1, moment=0.5)(thresholds) == ()
    assert len(quality(efficiency=0.1, distance=0.2)(thresholds)) == 2
