"""Monte Carlo errors of sds and importance sampling, against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lindley.inference.diagnostics.convergence import convergence, sd_errors
from lindley.inference.diagnostics.gate import Thresholds, cautions
from lindley.inference.diagnostics.importance import importance
from lindley.prior.triangular import joint_normal


@pytest.mark.parametrize(
    ("law", "kurtosis"), [(stats.norm(3, 2), 3.0), (stats.expon(), 9.0), (stats.uniform(), 1.8)]
)
def test_the_error_of_an_sd_is_that_of_independent_draws(law: stats.rv_frozen, kurtosis: float) -> None:
    draws = law.rvs((4, 5000, 40), random_state=np.random.default_rng(1))
    exact = np.sqrt((kurtosis - 1) / (4 * 20_000))
    found = sd_errors(draws)
    # The mean of forty estimates, each with its own error.
    assert abs(found.mean() - exact) < 5 * found.std(ddof=1) / np.sqrt(40) + 0.02 * exact


def test_the_error_is_the_spread_of_sds_of_heavy_tails() -> None:
    draws = stats.t(6).rvs((4, 500, 400), random_state=np.random.default_rng(2))
    spread = draws.std(axis=(0, 1)).std() / draws.std(axis=(0, 1)).mean()
    assert sd_errors(draws).mean() == pytest.approx(spread, rel=0.25)


def test_constants_have_no_error_and_scale_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(4, 300))
    found = sd_errors(np.stack([x, np.full_like(x, 7.0), 1e-100 * x, np.full_like(x, np.inf)], axis=-1))
    assert found[1] == found[3] == 0.0
    assert found[0] > 0
    assert found[2] == pytest.approx(found[0])


def test_a_single_chain_is_compared_half_by_half() -> None:
    draws = np.random.default_rng(4).normal(size=(1, 2001, 2))
    draws[0, 1000:, 1] += 3
    found = convergence(draws)
    assert found.r_hat[0] < 1.005
    assert found.r_hat[1] > 1.5
    np.testing.assert_array_equal(found.r_hat, convergence(draws[0, :2000].reshape(2, 1000, 2)).r_hat)
    assert np.isnan(convergence(np.zeros((1, 100, 1))).r_hat).all()


def test_a_warning_names_the_variable_whose_sd_is_known_least() -> None:
    def warnings(error: float) -> tuple[str, ...]:
        return cautions({"sd_error": error}, Thresholds(), assessable=True, least_known="tau")

    assert warnings(0.05) == ()
    assert warnings(0.07) == (
        "the sd of tau has a Monte Carlo error of 7%, above 5%: quote its quantiles, or ask for more draws",
    )


def normal_target(x: np.ndarray) -> np.ndarray:
    return np.asarray(stats.norm.logpdf(x).sum(axis=1) + 3.0)


def test_an_integral_is_known_where_the_map_is_close_to_the_target() -> None:
    near = joint_normal(np.full(5, 0.1), 1.1 * np.eye(5))
    found = importance(near, normal_target, rng=np.random.default_rng(4))
    assert abs(found.log_evidence - 3.0) < 5 * found.log_evidence_se


def test_an_integral_that_the_weights_do_not_determine_is_nan() -> None:
    # As with hundreds of local variables: every one is matched well, all together are not.
    far = joint_normal(np.full(400, 0.1), 0.8 * np.eye(400))
    found = importance(far, normal_target, rng=np.random.default_rng(5))
    assert found.k_hat > 0.7
    assert found.efficiency < 0.1
    assert np.isnan(found.log_evidence)
    assert found.log_evidence_se == np.inf
