"""Independent draws of known densities: right where they are certified, and refused where they are not.

The moments are exact; tolerances are Monte Carlo standard errors by the effective sample size.
"""

import numpy as np
import pytest
from scipy import stats
from scipy.special import digamma, expit, polygamma

from lindley.inference.approximation.independent import (
    EFFICIENCY,
    K_HAT,
    Independent,
    draw,
    fitted_proposal,
    k_hat_limit,
    locate,
)
from lindley.inference.approximation.proposal import Proposal
from lindley.inference.diagnostics.convergence import convergence


def normal(size: int, seed: int = 0):
    """A joint normal with strong correlations and units that differ by six orders of magnitude."""
    rng = np.random.default_rng(seed)
    root = np.diag(10.0 ** np.linspace(-3, 3, size)) @ rng.standard_normal((size, size))
    mean = 5 * np.sqrt((root**2).sum(axis=1))
    covariance = root @ root.T
    precision = np.linalg.inv(covariance)

    def log_densities(x):
        away = (x - mean) @ precision
        return -0.5 * ((x - mean) * away).sum(axis=1), -away

    return log_densities, mean, covariance


def independent(*margins):
    """A density with independent margins, each given as its log density and slope."""

    def log_densities(x):
        parts = [margin(column) for margin, column in zip(margins, x.T, strict=True)]
        return sum(value for value, _ in parts), np.column_stack([slope for _, slope in parts])

    return log_densities


def log_gamma(shape: float):
    """The log of a Gamma(shape): exponential tail to the left, doubly exponential to the right."""
    return lambda x: (shape * x - np.exp(x), shape - np.exp(x))


def student(degrees: float):
    return lambda x: (
        -0.5 * (degrees + 1) * np.log1p(x**2 / degrees),
        -(degrees + 1) * x / (degrees + x**2),
    )


def unit(x):
    return -0.5 * x**2, -x


def two_modes(x):
    """Modes at -3 and 3, of which the second one has a third of the mass."""
    parts = np.array([np.log(2 / 3) - 0.5 * (x + 3) ** 2, np.log(1 / 3) - 0.5 * (x - 3) ** 2])
    value = np.logaddexp(*parts)
    share = expit(parts[1] - parts[0])
    return value, -(x + 3) * (1 - share) - (x - 3) * share


def funnel(x):
    """Neal's funnel of four elements: its density has no mode, the neck rises for ever."""
    v, rest = x[:, 0], x[:, 1:]
    scaled = rest**2 * np.exp(-v)[:, None]
    value = -(v**2) / 18 - 0.5 * rest.shape[1] * v - 0.5 * scaled.sum(axis=1)
    first = -v / 9 - 0.5 * rest.shape[1] + 0.5 * scaled.sum(axis=1)
    return value, np.column_stack([first, -rest * np.exp(-v)[:, None]])


def drawn(
    log_densities, size: int, seed: int = 3, spread: float = 3.0, draws: int = 1000
) -> Independent | str:
    rng = np.random.default_rng(seed)
    mode = locate(log_densities, spread * rng.standard_normal((16, size)), np.full(size, spread))
    if isinstance(mode, str):
        return mode
    proposal, hopeless = fitted_proposal(log_densities, mode, rng)
    return hopeless or draw(log_densities, proposal, 4, draws, rng, mode.ascents)


def refused(found: Independent | str) -> str:
    return found if isinstance(found, str) else found.certificate.refusal


def require_right(found: Independent | str, mean, sd) -> None:
    assert not isinstance(found, str), found
    assert not found.certificate.refusal
    converged = convergence(found.x)
    assert converged.ess_min > 400
    assert converged.r_hat.max() < 1.01
    points = found.x.reshape(-1, found.x.shape[-1])
    assert np.abs((points.mean(axis=0) - mean) / sd).max() < 4.5 / np.sqrt(converged.ess_min)
    assert np.abs(np.log(points.std(axis=0) / sd)).max() < 4.5 / np.sqrt(converged.ess_min)


@pytest.mark.parametrize("size", [1, 4, 12])
def test_a_joint_normal_in_any_units_is_certified_and_right(size: int) -> None:
    log_densities, mean, covariance = normal(size)
    sd = np.sqrt(np.diag(covariance))
    rng = np.random.default_rng(1)
    starts = mean + 30 * sd * rng.standard_normal((16, size))
    mode = locate(log_densities, starts, 30 * sd)
    assert not isinstance(mode, str), mode
    assert np.abs((mode.x - mean) / sd).max() < 1e-3
    assert mode.factor @ mode.factor.T == pytest.approx(
        covariance, rel=1e-4, abs=1e-6 * np.outer(sd, sd).min()
    )
    proposal, hopeless = fitted_proposal(log_densities, mode, rng)
    assert not hopeless
    require_right(draw(log_densities, proposal, 4, 1000, rng), mean, sd)


@pytest.mark.parametrize("shape", [1.5, 4.0, 30.0])
def test_a_skewed_density_is_right_where_it_is_certified(shape: float) -> None:
    """The posterior of a log rate after few counts."""
    found = drawn(independent(log_gamma(shape), unit), 2)
    if shape > 2:
        assert not refused(found)
    if not refused(found):
        require_right(found, [digamma(shape), 0.0], [np.sqrt(polygamma(1, shape)), 1.0])


def test_tails_heavier_than_the_proposals_are_refused() -> None:
    assert "k-hat" in refused(drawn(independent(student(1.0), unit), 2)) or "efficiency" in refused(
        drawn(independent(student(1.0), unit), 2)
    )


def test_separated_modes_are_refused() -> None:
    assert "different modes" in refused(drawn(independent(two_modes, unit), 2))


def test_a_funnel_is_refused() -> None:
    assert refused(drawn(funnel, 5))


def test_modes_that_all_ascents_miss_are_found_by_the_weights_or_have_no_draws() -> None:
    """All starts are near one of two modes that the tails of the proposals reach: k-hat shows the other."""
    both = independent(two_modes)
    rng = np.random.default_rng(2)
    mode = locate(both, -3 + 0.1 * rng.standard_normal((16, 1)), np.ones(1))
    assert not isinstance(mode, str)
    found = draw(both, Proposal.of(mode.x, mode.factor @ mode.factor.T), 4, 1000, rng)
    assert found.certificate.refusal


def test_draws_are_exact_even_of_a_poor_proposal() -> None:
    """The chains' stationary distribution is the density, whatever is proposed."""
    rng = np.random.default_rng(5)
    found = draw(independent(log_gamma(3.0)), Proposal.of(np.array([0.6]), np.array([[2.0]])), 4, 5000, rng)
    ess = convergence(found.x).ess_min
    exact = stats.loggamma(3.0)
    quantiles = np.array([0.05, 0.5, 0.95])
    below = [(found.x < exact.ppf(q)).mean() for q in quantiles]
    assert np.abs(below - quantiles).max() < 4.5 * 0.5 / np.sqrt(ess)
    assert found.certificate.efficiency < 0.9


def test_limits_follow_the_number_of_proposals() -> None:
    """1 - 1/log10(n), and never above 0.5."""
    assert k_hat_limit(10**6) == K_HAT
    assert k_hat_limit(50) == pytest.approx(1 - 1 / np.log10(50))
    assert 0 < EFFICIENCY < 1


def test_the_same_seed_gives_the_same_draws() -> None:
    one, other = (drawn(independent(log_gamma(4.0), unit), 2, draws=200) for _ in range(2))
    assert np.array_equal(one.x, other.x)
    assert one.certificate == other.certificate
