"""Calibrated weights: exact where the posterior is normal, better elsewhere, equal where they do not pay."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma, gamma, polygamma

from lindley.prior.stein import calibrate, equal_weights

SHAPE = 2.0


def autocorrelated(rng, count, covariance, rho):
    """Draws [draw, coordinate] of a normal whose neighbours are correlated by rho, and their scores."""
    noise = rng.standard_normal((count, len(covariance)))
    z = np.empty_like(noise)
    z[0] = noise[0]
    for i in range(1, count):
        z[i] = rho * z[i - 1] + np.sqrt(1 - rho**2) * noise[i]
    factor = np.linalg.cholesky(covariance)
    return z @ factor.T, -z @ np.linalg.inv(factor)


def log_gamma(rng, count):
    """Draws [draw, 1] of the logarithm of a Gamma(SHAPE), their scores, and the draws' first two moments."""
    u = np.log(rng.gamma(SHAPE, size=(count, 1)))
    return u, SHAPE - np.exp(u), np.column_stack([u, (u - digamma(SHAPE)) ** 2])


def over_replicates(draw, count=4000, replicates=300):
    """Plain and calibrated means of two moments and the gains of many replicates."""
    rng = np.random.default_rng(3)
    plain, calibrated, gains = [], [], []
    for _ in range(replicates):
        draws, scores, moments = draw(rng, count)
        found = calibrate(draws, scores, count)
        plain.append(moments.mean(axis=0))
        calibrated.append(found.weights @ moments)
        gains.append(found.gain)
    return np.array(plain), np.array(calibrated), np.array(gains)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.sampled_from([0.0, 0.9]))
def test_the_first_three_moments_of_a_normal_are_exact(seed, size, rho):
    rng = np.random.default_rng(seed)
    root = rng.normal(0, 1, (size, size)) + 2 * np.eye(size)
    covariance, mean = root @ root.T, rng.normal(0, 5, size)
    count = 10_000
    draws, scores = autocorrelated(rng, count, covariance, rho)
    found = calibrate(draws + mean, scores, count * (1 - rho) / (1 + rho))
    assert found.order == 3
    assert found.weights.sum() == pytest.approx(1)
    sd = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose((found.weights @ (draws + mean) - mean) / sd, 0, atol=1e-9)
    second = np.einsum("n,ni,nj->ij", found.weights, draws, draws)
    np.testing.assert_allclose(second / np.outer(sd, sd), covariance / np.outer(sd, sd), atol=1e-9)
    scaled = draws / sd
    third = np.einsum("n,ni,nj,nk->ijk", found.weights, scaled, scaled, scaled, optimize=True)
    np.testing.assert_allclose(third, 0, atol=1e-8)
    # Plain moments have a Monte Carlo error: the draws themselves do not hide one. A single mean is within
    # 1e-4 in one of a hundred cases, a mean and a third moment together in one of ten thousand.
    plain = np.einsum("ni,nj,nk->ijk", scaled, scaled, scaled, optimize=True) / count
    assert max(np.abs(scaled.mean(axis=0)).max(), np.abs(plain).max()) > 1e-4


def test_the_error_of_a_skewed_posterior_falls_by_the_stated_gain():
    plain, calibrated, gains = over_replicates(log_gamma)
    exact = np.array([digamma(SHAPE), polygamma(1, SHAPE)])
    error = [np.sqrt(((means - exact) ** 2).mean(axis=0)) for means in (plain, calibrated)]
    ratio = (error[0] / error[1]) ** 2
    assert np.median(gains) > 3
    # The gain is that of the worse one of both moments. A variance from 300 replicates has a relative
    # error of sqrt(2 / 300) = 8 %, the quotient of two of them 12 %.
    assert 1 / 1.6 < ratio.min() / np.median(gains) < 1.6
    # A regression's bias falls with 1 / n.
    assert (abs(calibrated.mean(axis=0) - exact) < 5 * error[1] / np.sqrt(300) + 2 / 4000).all()


def test_the_standard_error_of_a_calibrated_mean_is_honest():
    rng = np.random.default_rng(4)
    exact = gamma(SHAPE + 0.5) / gamma(SHAPE)  # E exp(u / 2)
    for weighted in (True, False):
        off = []
        for _ in range(400):
            draws, scores, _ = log_gamma(rng, 6000)
            found = calibrate(draws, scores, 6000) if weighted else equal_weights(6000)
            assert bool(found.order) == weighted
            mean, error = found.mean(np.exp(draws[:, 0] / 2))
            off.append((mean - exact) / error)
        # An sd of 400 values has a relative error of 1 / sqrt(800) = 3.5 %.
        assert np.std(off) == pytest.approx(1, abs=0.18), weighted
        assert abs(np.mean(off)) < 5 / np.sqrt(400)


def student(rng, count):
    u = rng.standard_t(3, size=(count, 1))
    return u, -4 * u / (3 + u**2), np.column_stack([u, np.abs(u)])


def test_heavy_tails_are_not_made_worse():
    plain, calibrated, _ = over_replicates(student)
    exact = np.array([0.0, 2 * np.sqrt(3) / np.pi])
    worse = (calibrated - exact) ** 2 - (plain - exact) ** 2
    assert (worse.mean(axis=0) < 4 * worse.std(axis=0) / np.sqrt(len(worse))).all()


def plainly(found, count):
    np.testing.assert_array_equal(found.weights, np.full(count, 1 / count))
    return found.order == 0 and found.gain == 1


def test_draws_get_equal_weights_where_a_score_is_not_finite():
    draws, scores, _ = log_gamma(np.random.default_rng(5), 1000)
    assert calibrate(draws, scores, 1000).order == 3
    for bad in (np.nan, np.inf):
        scores[17] = bad
        assert plainly(calibrate(draws, scores, 1000), 1000)


def test_the_degree_falls_with_the_effective_sample_size():
    draws, scores, _ = log_gamma(np.random.default_rng(6), 2000)
    # One monomial per degree, ten effective draws for each.
    for ess, order in ((30, 3), (29, 2), (20, 2)):
        assert calibrate(draws, scores, ess).order == order
    assert calibrate(draws, scores, 19).order < 2
    assert plainly(calibrate(draws, scores, 9), 2000)


def test_a_score_of_another_density_gains_nothing_and_is_not_used():
    rng = np.random.default_rng(7)
    draws = rng.standard_normal((2000, 1))
    assert plainly(calibrate(draws, rng.standard_normal((2000, 1)), 2000), 2000)


def test_coordinates_that_do_not_move_apart_get_equal_weights():
    z = np.random.default_rng(8).standard_normal((500, 1))
    assert plainly(calibrate(np.hstack([z, z]), np.hstack([-z, -z]), 500), 500)
