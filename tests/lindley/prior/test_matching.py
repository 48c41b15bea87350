"""Matching: the family that is asked for or pays, honoured weights, shrunk correlations, digests."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from lindley.model.coordinates import Block, Coordinates
from lindley.prior.matched import MatchedPrior, array_bytes, match, rematch
from lindley.prior.matching import MOST_TRIANGULAR, match_like, match_map
from lindley.prior.stein import CalibratedWeights, equal_weights
from lindley.prior.triangular import ARRAYS, TriangularMap, joint_normal, plain_margins
from tests.lindley.prior.test_triangular import random_map

FAMILIES = ("normal", "sinh-arcsinh", "triangular")


def names(size):
    return [str(i) for i in range(size)]


def coordinates(size) -> Coordinates:
    return Coordinates(tuple(Block(name, (), (), "identity") for name in names(size)))


def with_margins(rng, map_: TriangularMap) -> TriangularMap:
    size = map_.size
    margins = np.array(
        [
            rng.normal(0, 2, size),
            np.exp(rng.normal(0, 0.5, size)),
            rng.normal(0, 0.3, size),
            np.exp(rng.normal(0, 0.2, size)),
        ]
    )
    return replace(map_, margins=margins)


def skewed(rng, count, size):
    """Independent log-gamma margins, shifted and scaled."""
    return np.log(rng.gamma(0.8, size=(count, size))) * np.arange(1, size + 1) + np.arange(size)


def numeric(function, x, step=1e-5):
    """Central differences of a function of x [coordinate] by each of its elements, first axis."""
    return np.array([(function(x + d) - function(x - d)) / (2 * step) for d in step * np.eye(len(x))])


# -- maps with margins --------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_a_map_with_margins_agrees_with_its_own_differences(seed, size):
    rng = np.random.default_rng(seed)
    warped = with_margins(rng, random_map(rng, size))
    assert warped.warped
    z = rng.standard_normal((3, size))
    u = warped.forward(z)
    again, log_slope = warped.inverse(u)
    np.testing.assert_allclose(again, z, atol=1e-7)
    jacobian = warped.jacobian(z)
    np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], -log_slope, atol=1e-7)
    slope = numeric(warped.forward, z[0]).T
    scale = np.abs(slope).max()
    np.testing.assert_allclose(jacobian[0] / scale, slope / scale, atol=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5))
def test_a_score_of_whitened_points_becomes_that_of_coordinates(seed, size):
    rng = np.random.default_rng(seed)
    warped = with_margins(rng, random_map(rng, size))
    weights, z = rng.normal(0, 1, size), rng.standard_normal((1, size))
    score = warped.gradient_in_u(z, weights - z)[0]

    def log_density(z):
        # The normal tilted by weights . z, as a density of u along the path u(z).
        u = warped.forward(z[None])
        return float(warped.log_density(u)[0] + weights @ z)

    # By the chain rule the derivative by z is the Jacobian's transpose times the score of u.
    np.testing.assert_allclose(
        warped.jacobian(z)[0].T @ score, numeric(log_density, z[0]), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("seed", range(5))
def test_a_density_with_margins_integrates_to_one(seed):
    rng = np.random.default_rng(seed)
    warped = with_margins(rng, random_map(rng, 1))
    u = warped.forward(np.linspace(-9, 9, 100_001)[:, None])
    assert trapezoid(np.exp(warped.log_density(u)), u[:, 0]) == pytest.approx(1, abs=1e-6)


def test_a_permuted_map_takes_its_margins_along():
    rng = np.random.default_rng(2)
    warped, index, z = with_margins(rng, random_map(rng, 4)), np.array([2, 0, 3, 1]), rng.normal(0, 1, (7, 4))
    np.testing.assert_allclose(warped.permuted(index).forward(z), warped.forward(z)[:, index])


def test_stretching_multiplies_covariances_and_keeps_the_middle():
    rng = np.random.default_rng(3)
    factor, factors = np.linalg.cholesky(np.cov(rng.normal(0, 1, (4, 20)))), np.array([1.0, 2.0, 0.5, 3.0])
    normal = joint_normal(rng.normal(0, 1, 4), factor).permuted(np.array([2, 0, 3, 1]))
    z = np.concatenate([np.zeros((1, 4)), np.eye(4)])
    before, after = normal.forward(z), normal.stretched(factors).forward(z)
    np.testing.assert_allclose(after[0], before[0])
    slope = [(u[1:] - u[0]).T for u in (before, after)]
    covariance = slope[0] @ slope[0].T
    np.testing.assert_allclose(slope[1] @ slope[1].T, np.outer(factors, factors) * covariance)


@pytest.mark.parametrize("shape", [random_map, lambda rng, size: with_margins(rng, random_map(rng, size))])
def test_stretching_keeps_the_shape_of_maps_that_are_not_normal(shape):
    rng = np.random.default_rng(4)
    nonlinear, factors, z = shape(rng, 3), np.array([2.0, 0.5, 3.0]), rng.normal(0, 1, (50, 3))
    wide = nonlinear.stretched(factors)
    before, after = nonlinear.forward(z), wide.forward(z)
    np.testing.assert_allclose(after - after[0], factors * (before - before[0]), rtol=1e-9, atol=1e-9)


# -- families -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def draws():
    return skewed(np.random.default_rng(5), 2000, 3) @ np.array([[1.0, 0, 0], [0.5, 1, 0], [0, 0.3, 1]])


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_that_is_asked_for_is_matched(draws, family):
    found = match_map(draws, names(3), family=family)
    matched = MatchedPrior(coordinates(3), found.map)
    assert matched.family == family
    assert found.reason == f"{family} asked for"
    again = match_like(draws, equal_weights(len(draws)).weights, found.map, found.shrinkage, names(3))
    for a, b in zip(found.map.arrays(), again.arrays(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("family", ["auto", *FAMILIES])
def test_a_verifier_finds_the_same_match_from_draws_and_weights(draws, family):
    weights = np.random.default_rng(6).uniform(0.5, 1.5, len(draws))
    calibration = CalibratedWeights(weights / weights.sum(), 3, 2.0)
    found = match(draws, coordinates(3), calibration=calibration, family=family)
    assert found.moments == "stein 3"
    assert rematch(draws, calibration.weights, found).digest == found.digest
    # Other weights are another match.
    assert rematch(draws, equal_weights(len(draws)).weights, found).digest != found.digest


def test_many_skewed_margins_are_warped_and_keep_their_quantiles():
    rng, size, count = np.random.default_rng(7), 20, 3000
    assert size > MOST_TRIANGULAR
    draws, fresh = skewed(rng, count, size), skewed(rng, 20_000, size)
    found = match_map(draws, names(size))
    assert found.map.warped
    assert not found.map.triangular
    assert "sinh-arcsinh +" in found.reason
    sample = found.map.sample(rng, 20_000)
    normal = match_map(draws, names(size), family="normal").map.sample(rng, 20_000)
    worst = {"warped": 0.0, "normal": 0.0}
    for low in (0.05, 0.25, 0.5, 0.75, 0.95):
        error = np.sqrt(low * (1 - low) * (2 / 20_000 + 1 / count))
        for kind, points in (("warped", sample), ("normal", normal)):
            share = (points < np.quantile(fresh, low, axis=0)).mean(axis=0)
            worst[kind] = max(worst[kind], float((np.abs(share - low) / error).max()))
    # In standard errors; a joint normal is far outside.
    assert worst["warped"] < 5 < worst["normal"]


@pytest.mark.parametrize("size", [2, 20])
def test_normal_draws_keep_the_joint_normal(size):
    draws = np.random.default_rng(8).standard_normal((3000, size)) @ np.tri(size)
    found = match_map(draws, names(size))
    assert found.map.normal
    assert found.shrinkage == 0


def test_weights_are_honoured():
    rng = np.random.default_rng(9)
    draws, weights = rng.normal(0, 1, (500, 3)), rng.uniform(0, 1, 500)
    weights /= weights.sum()
    found = match_map(draws, names(3), calibration=CalibratedWeights(weights, 3, 2.0), family="normal").map
    z = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    u = found.forward(z)
    np.testing.assert_allclose(u[0], np.average(draws, axis=0, weights=weights))
    slope = (u[1:] - u[0]).T
    np.testing.assert_allclose(slope @ slope.T, np.cov(draws.T, aweights=weights, ddof=0))


def test_weights_move_the_quantiles_of_a_warped_margin():
    rng = np.random.default_rng(10)
    z = rng.standard_normal(20_000)
    # Half of the draws from elsewhere, with weight nothing.
    draws = np.where(np.arange(20_000) % 2, z, z + 7)[:, None]
    weights = (np.arange(20_000) % 2) / 10_000
    found = match_map(draws, ["u"], calibration=CalibratedWeights(weights, 3, 2.0), family="sinh-arcsinh").map
    low, middle, high = found.forward(np.array([[-1.6449], [0.0], [1.6449]]))[:, 0]
    error = np.sqrt(0.05 * 0.95 / 10_000) / 0.103  # of the 5 % quantile of a standard normal
    assert np.abs([low + 1.6449, middle, high - 1.6449]).max() < 5 * error


# -- shrinkage ----------------------------------------------------------------------------------------


def divergence(map_, covariance):
    """KL divergence of the normal map from Normal(0, covariance)."""
    z = np.concatenate([np.zeros((1, map_.size)), np.eye(map_.size)])
    u = map_.forward(z)
    slope, mean = (u[1:] - u[0]).T, u[0]
    inner = np.linalg.solve(slope @ slope.T, covariance)
    offset = np.linalg.solve(slope, mean)
    return 0.5 * (np.trace(inner) + offset @ offset - map_.size - np.linalg.slogdet(inner)[1])


def test_few_draws_in_many_coordinates_are_shrunk_and_closer_to_the_truth():
    rng, size, count = np.random.default_rng(11), 40, 60
    covariance = 0.5 ** np.abs(np.subtract.outer(np.arange(size), np.arange(size)))
    for _ in range(5):
        draws = rng.multivariate_normal(np.zeros(size), covariance, count)
        found = match_map(draws, names(size))
        raw = match_like(draws, equal_weights(count).weights, None, 0.0, names(size))
        assert 0 < found.shrinkage < 1
        assert f"correlations shrunk by {found.shrinkage:.3f}" in found.reason
        assert divergence(found.map, covariance) < divergence(raw, covariance) / 2
    # As many draws that are worth only sixty are shrunk alike; many good ones are not.
    many = rng.multivariate_normal(np.zeros(size), covariance, 4000)
    assert match_map(many, names(size), ess=60).shrinkage == pytest.approx(found.shrinkage, rel=0.5)
    assert match_map(many, names(size), ess=10 * size).shrinkage == 0


def test_what_is_said_to_be_shrunk_is_shrunk():
    rng, size = np.random.default_rng(12), 10
    draws = rng.multivariate_normal(np.zeros(size), 0.3 + 0.7 * np.eye(size), 60)
    found = match_map(draws, names(size), family="sinh-arcsinh")
    assert found.shrinkage > 0.02
    loose = match_like(draws, equal_weights(60).weights, found.map, 0.0, names(size))
    # Whitening by shrunk correlations leaves some in the draws; that by the draws' own leaves none.
    left = [np.abs(np.corrcoef(map_.inverse(draws)[0].T) - np.eye(size)).max() for map_ in (found.map, loose)]
    assert left[1] < 0.01 < left[0]


# -- digests ------------------------------------------------------------------------------------------


def test_plain_margins_leave_the_digest_that_a_belief_always_had():
    rng = np.random.default_rng(13)
    plain = replace(random_map(rng, 2), margins=plain_margins(2))
    matched = MatchedPrior(coordinates(2), plain)
    sha = hashlib.sha256(b"lindley-matched-prior/1\ntriangular\n0\n1\n0:identity\n1:identity")
    for name in ARRAYS[:-1]:
        sha.update(array_bytes(name, getattr(plain, name)))
    assert matched.digest == sha.hexdigest()
    warped = replace(matched, map=replace(plain, margins=plain_margins(2) + 1e-9))
    assert warped.digest != matched.digest
