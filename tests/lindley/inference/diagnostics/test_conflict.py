"""Prior-data conflict: exact for normal models, and sensitive where a batch is little informative."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lindley.inference.diagnostics.conflict import conflict

DRAWS = 4000


def normal(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return draws [draw, coordinate] with just these moments."""
    z = np.random.default_rng(1).normal(size=(DRAWS, len(mean)))
    z = (z - z.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.atleast_2d(np.cov(z.T, bias=True)))).T
    found: np.ndarray = mean + z * np.sqrt(variance)
    return found


def p_value(mean: list[float], variance: list[float], ess: float = DRAWS) -> float:
    """Return the p-value of a posterior with these moments, turned in space."""
    turn, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(len(mean), len(mean))))
    z = normal(np.array(mean), np.array(variance)) @ turn
    return conflict(z, np.full(DRAWS, 1 / DRAWS), ess)


def test_informed_directions_have_the_chi_squared_of_the_prior_predictive() -> None:
    exact = stats.chi2.sf(1.5**2 / 0.8 + 0.7**2 / 0.5, 2)
    assert p_value([1.5, -0.7], [0.2, 0.5]) == pytest.approx(exact, rel=1e-6)


def test_a_long_chain_still_detects_a_distant_batch() -> None:
    # After 20 equal batches a posterior has 20/21 of the variance before; ten predictive sds off.
    variance = 20 / 21
    off = 10 * np.sqrt(1 - variance)
    assert p_value([off], [variance]) < 1e-5
    assert p_value([0.1 * off], [variance]) > 0.5


def test_uninformed_directions_do_not_hide_one_pull() -> None:
    silent = [1.0] * 30
    alone, among = p_value([5.0], [0.1]), p_value([5.0, *[0.0] * 30], [0.1, *silent])
    assert among == pytest.approx(2 * alone, rel=1e-6)


def test_a_posterior_wider_than_its_prior_is_a_conflict_where_it_is_far_away() -> None:
    assert p_value([6.0], [4.0]) == pytest.approx(stats.chi2.sf(36, 1), rel=1e-6)
    assert p_value([0.5], [1.3]) > 0.5


@pytest.mark.parametrize("variance", [0.3, 0.9, 20 / 21, 0.999])
def test_the_false_positive_rate_is_at_most_the_level(variance: float) -> None:
    rng = np.random.default_rng(3)
    means = rng.normal(0, np.sqrt(1 - variance), size=(2000, 3))
    found = np.array([p_value(list(mean), [variance] * 3) for mean in means[:400]])
    assert (found < 0.05).mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)


def test_the_mean_is_weighted() -> None:
    z = normal(np.zeros(1), np.full(1, 0.5))
    weights = np.where(z[:, 0] > 0, 1.5, 0.5) / DRAWS
    mean = weights @ z[:, 0]
    variance = weights @ (z[:, 0] - mean) ** 2
    assert conflict(z, weights, DRAWS) == pytest.approx(stats.chi2.sf(mean**2 / (1 - variance), 1))
