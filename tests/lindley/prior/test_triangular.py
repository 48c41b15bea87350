"""Triangular maps: exact where they are normal, invertible and normalised where they are nonlinear."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lindley.inference.diagnostics.importance import importance
from lindley.prior.matching import MOST_TRIANGULAR, covariance_factor, match_map
from lindley.prior.triangular import TriangularMap, joint_normal
from lindley.prior.triangular_fit import fit_triangular


def factor_of(draws):
    return covariance_factor(
        np.atleast_2d(np.cov(draws, rowvar=False)), [str(i) for i in range(draws.shape[1])]
    )


def matched(draws, **options):
    return match_map(draws, [str(i) for i in range(draws.shape[1])], **options)


def random_map(rng, size) -> TriangularMap:
    lower = np.tril(np.ones((size, size)), -1)
    quadratic = rng.normal(0, 0.1, (size, size, size)) * lower[:, :, None] * lower[:, None, :]
    return TriangularMap(
        order=rng.permutation(size),
        loc=rng.normal(0, 2, size),
        linear=rng.normal(0, 1, (size, size)) * lower,
        log_width=rng.normal(0, 0.5, size),
        quadratic=(quadratic + quadratic.transpose(0, 2, 1)) / 2,
        widen=rng.normal(0, 0.2, (size, size)) * lower,
        skew=rng.normal(0, 0.3, size),
        tail=np.exp(rng.normal(0, 0.2, size)),
    )


def funnel_and_banana(rng, count):
    """A dispersion, what it disperses, a curved ridge on that, and a skewed margin."""
    z = rng.standard_normal((count, 4))
    scale = z[:, 0]
    spread = np.exp(0.6 * scale) * z[:, 1]
    ridge = 0.5 * z[:, 1] ** 2 + 0.3 * z[:, 2]
    skewed = np.log(rng.gamma(0.7, size=count)) + 0.2 * z[:, 3]
    return np.column_stack([spread, scale, ridge, skewed])


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6))
def test_inverse_and_slope_undo_forward(seed, size):
    rng = np.random.default_rng(seed)
    nonlinear = random_map(rng, size)
    z = rng.standard_normal((5, size))
    again, log_slope = nonlinear.inverse(nonlinear.forward(z))
    np.testing.assert_allclose(again, z, atol=1e-7)
    step = 1e-6 * np.eye(size)
    jacobian = np.array([(nonlinear.forward(z[0] + s) - nonlinear.forward(z[0] - s)) / 2e-6 for s in step]).T
    np.testing.assert_allclose(np.linalg.slogdet(jacobian)[1], -log_slope[0], atol=1e-4)


def test_without_bends_it_is_the_joint_normal():
    rng = np.random.default_rng(1)
    draws = rng.multivariate_normal([1, -2, 3], [[2, 1, 0], [1, 3, -1], [0, -1, 1]], 500)
    normal = joint_normal(draws.mean(axis=0), factor_of(draws))
    oracle = stats.multivariate_normal(draws.mean(axis=0), np.cov(draws, rowvar=False))
    points = rng.normal(0, 2, (20, 3))
    np.testing.assert_allclose(normal.log_density(points), oracle.logpdf(points), rtol=1e-9)
    assert not normal.triangular


def test_a_permuted_map_is_the_same_distribution_of_permuted_coordinates():
    rng = np.random.default_rng(2)
    nonlinear = random_map(rng, 4)
    index = np.array([2, 0, 3, 1])
    z = rng.standard_normal((7, 4))
    np.testing.assert_allclose(nonlinear.permuted(index).forward(z), nonlinear.forward(z)[:, index])


@pytest.mark.parametrize("size", [1, 3, 8])
def test_normal_draws_get_the_joint_normal_with_their_moments(size):
    draws = np.random.default_rng(3).standard_normal((6000, size)) @ np.tri(size)
    found = matched(draws)
    assert not found.map.triangular
    assert "normal" in found.reason
    sample = found.map.sample(np.random.default_rng(4), 200_000)
    error = draws.std(axis=0) * np.sqrt(1 / 200_000)
    assert (np.abs(sample.mean(axis=0) - draws.mean(axis=0)) < 5 * error).all()


def test_too_many_coordinates_or_too_few_draws_keep_the_joint_normal_and_say_so():
    rng = np.random.default_rng(5)
    wide = rng.gamma(1, size=(6000, MOST_TRIANGULAR + 1))
    assert not matched(wide).map.triangular
    assert str(MOST_TRIANGULAR) in matched(wide).reason
    few = rng.gamma(1, size=(200, 6))
    assert not matched(few).map.triangular
    assert "200 draws" in matched(few).reason


def test_funnels_ridges_and_skewness_are_kept():
    rng = np.random.default_rng(6)
    draws = funnel_and_banana(rng, 6000)
    found = matched(draws)
    assert found.map.triangular
    assert "held-out log score of triangular +" in found.reason
    fresh = funnel_and_banana(rng, 20_000)
    gain = found.map.log_density(fresh) - joint_normal(draws.mean(axis=0), factor_of(draws)).log_density(
        fresh
    )
    assert gain.mean() > 10 * gain.std() / np.sqrt(len(fresh))
    sample = found.map.sample(rng, 20_000)
    for low in (0.05, 0.25, 0.5, 0.75, 0.95):
        # Share of the map below the truth's quantile; errors of both samples and of the fit's 3,000 draws.
        error = np.sqrt(low * (1 - low) * (1 / 20_000 + 1 / 20_000 + 1 / 3000))
        share = (sample < np.quantile(fresh, low, axis=0)).mean(axis=0)
        assert (np.abs(share - low) < 5 * error + 0.02).all(), (low, share)


def test_state_comes_last():
    rng = np.random.default_rng(7)
    draws = funnel_and_banana(rng, 6000)
    last = np.array([False, True, False, False])
    assert matched(draws, last=last).map.order[-1] == 1


def test_the_fit_is_deterministic():
    draws = funnel_and_banana(np.random.default_rng(8), 2000)
    one, two = (fit_triangular(draws, np.arange(4), np.full(2000, 1 / 2000)) for _ in range(2))
    for a, b in zip(one.arrays(), two.arrays(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_importance_sampling_finds_the_integral_of_a_normal_target():
    proposal = joint_normal(np.zeros(2), np.eye(2))
    target = stats.multivariate_normal([0.2, -0.1], [[0.9, 0.2], [0.2, 0.8]])
    found = importance(proposal, lambda u: target.logpdf(u) + 3.0, rng=np.random.default_rng(9), size=20_000)
    assert abs(found.log_evidence - 3.0) < 5 * found.log_evidence_se
    assert found.k_hat < 0.5
    assert 0.8 < found.efficiency < 1


def test_k_hat_sees_a_target_with_tails_that_the_map_lacks():
    proposal = joint_normal(np.zeros(1), np.eye(1) * 0.3)
    heavy = importance(
        proposal, lambda u: stats.t.logpdf(u[:, 0], 3), rng=np.random.default_rng(10), size=20_000
    )
    assert heavy.k_hat > 0.7
    assert heavy.efficiency < 0.9
    perfect = importance(proposal, proposal.log_density, rng=np.random.default_rng(10))
    assert perfect.efficiency == pytest.approx(1)
    assert perfect.log_evidence == pytest.approx(0)


def test_a_target_without_support_under_the_map_is_as_bad_as_can_be():
    found = importance(
        joint_normal(np.zeros(1), np.eye(1)), lambda u: np.full(len(u), -np.inf), rng=np.random.default_rng(1)
    )
    assert found.k_hat == np.inf
    assert found.log_evidence == -np.inf


def test_points_too_far_out_are_not_finite_and_do_not_warn():
    far = joint_normal(np.zeros(2), np.eye(2))
    far.log_width[:] = [-800.0, 800.0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z, log_slope = far.inverse(np.array([[1.0, 1.0], [1e300, -1e300]]))
        u = far.forward(np.array([[1.0, 1.0]]))
    assert not np.isfinite(z[:, 0]).any()
    assert not np.isfinite(log_slope).all()
    assert not np.isfinite(u[0, 1])
