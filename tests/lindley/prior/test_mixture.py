"""Mixtures of maps: a density, draws of it, and the same after it was written and read."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from lindley.errors import LedgerCorrupt
from lindley.ledger.netcdf import read_matched_prior, write_matched_prior
from lindley.prior.matched import MatchedPrior, match, mixed, rematch, rematch_modes
from lindley.prior.mixture import Mixture, map_of, named_arrays
from lindley.prior.stein import equal_weights
from lindley.prior.triangular import joint_normal
from tests.lindley.prior.test_matching import coordinates, with_margins
from tests.lindley.prior.test_triangular import random_map

WEIGHTS = np.array([0.2, 0.5, 0.3])


def mixture(seed=0, size=2) -> Mixture:
    rng = np.random.default_rng(seed)
    parts = [random_map(rng, size), with_margins(rng, joint_normal(np.zeros(size), np.eye(size)))]
    return Mixture(WEIGHTS, (*parts, joint_normal(np.full(size, 5.0), 0.3 * np.eye(size))))


def test_the_density_is_the_weighted_sum_of_those_of_the_parts():
    parts = (joint_normal(np.zeros(2), np.eye(2)), joint_normal(np.ones(2), 2 * np.eye(2)))
    found = Mixture(np.array([0.3, 0.7]), parts)
    points = np.random.default_rng(0).normal(size=(5, 2))
    exact = 0.3 * multivariate_normal([0, 0], np.eye(2)).pdf(points)
    exact += 0.7 * multivariate_normal([1, 1], 4 * np.eye(2)).pdf(points)
    np.testing.assert_allclose(found.log_density(points), np.log(exact))
    np.testing.assert_allclose(found.mean(), [0.7, 0.7])


def test_its_draws_are_of_the_density():
    found = mixture()
    draws = found.sample(np.random.default_rng(1), 40_000)
    ratio = np.exp(mixture(seed=0).parts[2].log_density(draws) - found.log_density(draws))
    # The integral of a part's density, estimated by draws of the mixture.
    error = ratio.std() / np.sqrt(len(ratio))
    assert ratio.mean() == pytest.approx(1.0, abs=4 * error)
    np.testing.assert_allclose(draws.mean(axis=0), found.mean(), atol=5 * draws.std() / 200)


def test_whitening_keeps_the_density():
    found = mixture()
    points = found.sample(np.random.default_rng(2), 50)
    z, log_slope = found.inverse(points)
    normal = -0.5 * (z**2).sum(axis=1) - np.log(2 * np.pi)
    np.testing.assert_allclose(normal + log_slope, found.log_density(points))


def test_other_orders_and_widths_are_those_of_the_parts():
    found, points = mixture(), np.random.default_rng(3).normal(size=(20, 2))
    index = np.array([1, 0])
    np.testing.assert_allclose(found.permuted(index).log_density(points[:, index]), found.log_density(points))
    wide = found.stretched(np.array([2.0, 2.0]))
    np.testing.assert_allclose(wide.mean(), found.mean(), atol=1e-8)
    np.testing.assert_allclose(wide.parts[2].jacobian(np.zeros(2)), 0.6 * np.eye(2))


def test_arrays_make_the_same_mixture_and_the_file_too(tmp_path):
    prior = MatchedPrior(coordinates(2), mixture(), "three modes")
    points = np.random.default_rng(4).normal(size=(20, 2))
    again = map_of(named_arrays(prior.map))
    np.testing.assert_array_equal(again.log_density(points), prior.map.log_density(points))
    write_matched_prior(prior, tmp_path / "prior.nc")
    held = read_matched_prior(tmp_path / "prior.nc")
    assert (held.digest, held.family, held.reason) == (prior.digest, "mixture", "three modes")
    np.testing.assert_array_equal(held.map.log_density(points), prior.map.log_density(points))


def test_weights_and_parts_are_in_the_digest():
    found = mixture()
    digests = {
        MatchedPrior(coordinates(2), one).digest
        for one in (
            found,
            Mixture(WEIGHTS[[1, 0, 2]], found.parts),
            Mixture(WEIGHTS, found.parts[::-1]),
            found.parts[2],
        )
    }
    assert len(digests) == 4


@pytest.mark.parametrize("weights", [[0.5, 0.6, 0.2], [-0.1, 0.8, 0.3], [np.nan, 0.5, 0.5]])
def test_weights_that_are_none_are_refused(weights, tmp_path):
    prior = MatchedPrior(coordinates(2), Mixture(np.array(weights), mixture().parts))
    write_matched_prior(prior, tmp_path / "prior.nc")
    with pytest.raises(LedgerCorrupt, match=r"prior\.nc"):
        read_matched_prior(tmp_path / "prior.nc")


def test_each_part_is_the_match_of_its_mode_again():
    rng = np.random.default_rng(5)
    modes = [rng.normal(-3, 1, (400, 2)), np.log(rng.gamma(0.5, size=(400, 2))) + 20]
    families = ("normal", "sinh-arcsinh")
    each = [match(draws, coordinates(2), family=f) for draws, f in zip(modes, families, strict=True)]
    shares = np.array([0.25, 0.75])
    found = mixed(each, shares)
    assert (found.family, found.moments) == ("mixture", "draws")
    assert found.reason.startswith("2 separated modes: 0.250 normal (")
    weighted = [(draws, equal_weights(len(draws)).weights) for draws in modes]
    assert rematch_modes(weighted, shares, found).digest == found.digest
    assert rematch_modes(weighted[::-1], shares, found).digest != found.digest
    assert rematch_modes(weighted, shares[::-1], found).digest != found.digest
    assert [part.digest for _, part in found.components] == [part.digest for part in each]
    with pytest.raises(ValueError, match="each mode"):
        rematch(*weighted[0], found)


def test_the_joint_normal_has_the_moments_of_the_whole():
    parts = (joint_normal(np.array([-4.0]), np.eye(1)), joint_normal(np.array([4.0]), np.eye(1)))
    prior = MatchedPrior(coordinates(1), Mixture(np.array([0.5, 0.5]), parts))
    normal = prior.as_joint_normal()
    assert normal.family == "normal"
    sd = normal.first.jacobian(np.zeros((1, 1))).item()
    assert sd == pytest.approx(np.sqrt(17), rel=0.03)
