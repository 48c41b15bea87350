"""The additive information form: exact for normal likelihoods, however few the draws, link after link."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindley.prior.information import information_map
from lindley.prior.matching import match_map
from lindley.prior.triangular import joint_normal


def names(size):
    return [str(i) for i in range(size)]


def normal_of(mean, covariance):
    return joint_normal(np.asarray(mean, float), np.linalg.cholesky(np.atleast_2d(covariance)))


def moments(map_):
    """Mean and covariance of a joint normal, from its definition."""
    assert map_.normal
    factor, mean = np.zeros((map_.size, map_.size)), np.zeros(map_.size)
    factor[map_.order], mean[map_.order] = map_.linear + np.diag(np.exp(map_.log_width)), map_.loc
    return mean, factor @ factor.T


def precision_of(rng, size):
    root = rng.normal(0, 1, (size, size))
    return root @ root.T + 0.5 * np.eye(size)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 8))
def test_a_normal_likelihood_loses_nothing_however_few_the_draws(seed, size):
    rng = np.random.default_rng(seed)
    before, added = precision_of(rng, size), precision_of(rng, size)
    prior_mean, batch_mean = rng.normal(0, 3, size), rng.normal(0, 3, size)
    covariance = np.linalg.inv(before + added)
    mean = covariance @ (before @ prior_mean + added @ batch_mean)
    draws = rng.multivariate_normal(mean, covariance, size + 10)
    scores = -(draws - mean) @ (before + added)
    prior = normal_of(prior_mean, np.linalg.inv(before)).permuted(rng.permutation(size))
    # A permuted map is that of permuted coordinates: take the batch there as well.
    index = np.argsort(prior.order)
    found = information_map(draws[:, index], scores[:, index], prior, names(size))
    new_mean, new_covariance = moments(found)
    sd = np.sqrt(np.diag(covariance))[index]
    np.testing.assert_allclose((new_mean - mean[index]) / sd, 0, atol=1e-6)
    scale = np.outer(sd, sd)
    np.testing.assert_allclose(new_covariance / scale, covariance[np.ix_(index, index)] / scale, atol=1e-6)


def chained(rng, links, draw_count, match):
    """Geometric mean over parameters of the sd after many equal batches, relative to the pooled sd."""
    size = 5
    added = precision_of(rng, size)
    belief, pooled = normal_of(np.zeros(size), np.eye(size)), np.eye(size)
    for _ in range(links):
        pooled = pooled + added
        mean, covariance = moments(belief)
        target = np.linalg.inv(covariance) + added
        center = np.linalg.solve(target, np.linalg.inv(covariance) @ mean)
        draws = rng.multivariate_normal(center, np.linalg.inv(target), draw_count)
        belief = match(draws, -(draws - center) @ target, belief)
    sd = np.sqrt(np.diag(moments(belief)[1]) / np.diag(np.linalg.inv(pooled)))
    return float(np.exp(np.log(sd).mean()))


def test_two_hundred_links_keep_the_pooled_width_where_plain_matching_shrinks():
    def added(draws, scores, prior):
        return information_map(draws, scores, prior, names(5))

    def plain(draws, scores, prior):
        return match_map(draws, names(5), family="normal").map

    assert chained(np.random.default_rng(1), 200, 20, added) == pytest.approx(1, abs=1e-6)
    # A sample's precision is too large by (d + 1) / n = 0.6 % in the mean, and a chain compounds it: with
    # P <- 1.006 P + 1 two hundred times, P doubles.
    assert chained(np.random.default_rng(1), 200, 1000, plain) < 0.85


def poisson_posterior(total, exposure):
    """Grid, weights and the score of a log rate ~ Normal(0, 1) after `total` counts."""
    grid = np.linspace(-4, 4, 40_001)
    log_density = total * grid - exposure * np.exp(grid) - grid**2 / 2
    weights = np.exp(log_density - log_density.max())
    return grid, weights / weights.sum(), lambda u: total - exposure * np.exp(u) - u


def logistic_posterior(successes, trials):
    """The same of log odds ~ Normal(0, 1)."""
    grid = np.linspace(-6, 6, 40_001)
    log_density = successes * grid - trials * np.logaddexp(0, grid) - grid**2 / 2
    weights = np.exp(log_density - log_density.max())
    return grid, weights / weights.sum(), lambda u: successes - trials / (1 + np.exp(-u)) - u


@pytest.mark.parametrize("posterior", [poisson_posterior(12, 4.0), logistic_posterior(15, 20)])
def test_other_likelihoods_are_met_within_a_fraction_of_the_monte_carlo_error(posterior):
    grid, weights, score = posterior
    mean = weights @ grid
    sd = np.sqrt(weights @ (grid - mean) ** 2)
    rng, count, replicates = np.random.default_rng(2), 1000, 100
    prior = normal_of([0.0], [[1.0]])
    off = []
    for _ in range(replicates):
        draws = np.interp(rng.uniform(size=count), np.cumsum(weights), grid)[:, None]
        new_mean, covariance = moments(information_map(draws, score(draws), prior, ["u"]))
        off.append([(new_mean[0] - mean) / sd, np.sqrt(covariance[0, 0]) / sd - 1])
    off = np.array(off)
    # Plain moments of normal draws are off by 1 / sqrt(n), and 1 / sqrt(2 n) of the sd.
    plain = np.array([1, 1 / np.sqrt(2)]) / np.sqrt(count)
    rms = np.sqrt((off**2).mean(axis=0))
    assert (rms < plain / 2).all(), rms / plain
    # Without bias beyond the noise of the replicates and the 1/n of a quotient of moments.
    assert (np.abs(off.mean(axis=0)) < 5 * off.std(axis=0) / np.sqrt(replicates) + 1 / count).all()


def test_a_prior_that_is_no_joint_normal_has_no_precision_to_add_to():
    draws = np.random.default_rng(3).standard_normal((50, 2))
    prior = normal_of(np.zeros(2), np.eye(2))
    assert information_map(draws, -2 * draws, prior, names(2)) is not None
    nonlinear = replace(prior, skew=np.array([0.1, 0.0]))
    warped = replace(prior, margins=prior.margins + np.array([[0.0], [0.0], [0.2], [0.0]]))
    assert information_map(draws, -2 * draws, nonlinear, names(2)) is None
    assert information_map(draws, -2 * draws, warped, names(2)) is None


@pytest.mark.parametrize("curvature", [1.5, 0.0])
def test_an_indefinite_precision_is_refused(curvature):
    draws = np.random.default_rng(4).standard_normal((50, 2))
    prior = normal_of(np.zeros(2), np.eye(2))
    scores = -draws * np.array([1.0, 1.0 - curvature])
    found = information_map(draws, scores, prior, names(2))
    assert (found is None) == (curvature > 1)
