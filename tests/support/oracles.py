"""Exact posteriors of the example models on all rows at once, without any sampling.

Each is computed from first principles (closed form or quadrature, SciPy's own integrator for the
differential equations), so that an error in the models or in Lindley cannot cancel out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.integrate import solve_ivp

BOYS = 763


@dataclass(frozen=True)
class Exact:
    """Moments of a posterior.

    Parameters
    ----------
    names
        Parameters, labelled as in a link's summary.
    mean
        Array [parameter].
    covariance
        Array [parameter, parameter].
    """

    names: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray

    @property
    def sd(self) -> np.ndarray:
        """Standard deviations, array [parameter]."""
        return np.sqrt(np.diag(self.covariance))

    def as_dict(self) -> dict[str, tuple[float, float]]:
        """Return mean and standard deviation by parameter."""
        return {name: (float(m), float(s)) for name, m, s in zip(self.names, self.mean, self.sd, strict=True)}


def beta_binomial(k: np.ndarray, n: np.ndarray) -> stats.distributions.rv_frozen:
    """Return the posterior of theta ~ Beta(2, 3) after k successes of n trials in each row."""
    return stats.beta(2 + np.sum(k), 3 + np.sum(n) - np.sum(k))


def normal_mean(y: np.ndarray) -> stats.distributions.rv_frozen:
    """Return the posterior of mu ~ Normal(0, 10) after observations y with standard deviation 2."""
    precision = 1 / 10**2 + len(y) / 2**2
    return stats.norm(np.sum(y) / 2**2 / precision, np.sqrt(1 / precision))


def regression(x: np.ndarray, y: np.ndarray, names: tuple[str, ...]) -> Exact:
    """Return the posterior of y ~ Normal(x b, sigma) with b ~ Normal(0, 10), sigma ~ HalfNormal(5).

    Given sigma the coefficients are normal; sigma is integrated on a grid.
    """
    rows, size = x.shape
    gram, moment, square = x.T @ x, x.T @ y, y @ y
    residual = np.sqrt(np.mean((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2))
    width = residual / np.sqrt(2 * rows)
    grid = np.linspace(max(residual - 8 * width, residual / 20), residual + 9 * width, 2001)
    log_weight, means, covariances = np.empty(len(grid)), [], []
    for position, sigma in enumerate(grid):
        precision = gram / sigma**2 + np.eye(size) / 10**2
        covariance = np.linalg.inv(precision)
        mean = covariance @ moment / sigma**2
        log_weight[position] = (
            -rows * np.log(sigma)
            - 0.5 * square / sigma**2
            + 0.5 * mean @ precision @ mean
            - 0.5 * np.linalg.slogdet(precision)[1]
            - 0.5 * (sigma / 5) ** 2
        )
        means.append(mean)
        covariances.append(covariance)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    centers = np.column_stack([np.array(means), grid])
    mean = weight @ centers
    covariance = (weight[:, None] * (centers - mean)).T @ (centers - mean)
    covariance[:size, :size] += np.tensordot(weight, np.array(covariances), axes=1)
    return Exact((*(f"b[{name}]" for name in names), "sigma"), mean, covariance)


def local_level(y: np.ndarray, step: float) -> Exact:
    """Return the posterior of log sigma and the last level of a random walk observed with noise.

    The level begins at Normal(0, 2) and moves by Normal(0, step) before each observation y ~ Normal(level,
    sigma), log sigma ~ Normal(0, 1). Given sigma the level is that of the Kalman filter; sigma is integrated
    on a grid.
    """
    grid = np.linspace(-5, 4, 4001)
    mean, variance = np.zeros_like(grid), np.full_like(grid, 4.0)
    log_weight = -0.5 * grid**2
    for value in y:
        variance = variance + step**2
        total = variance + np.exp(2 * grid)
        log_weight -= 0.5 * (np.log(total) + (value - mean) ** 2 / total)
        gain = variance / total
        mean, variance = mean + gain * (value - mean), variance * (1 - gain)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    both = np.array([grid, mean])
    middle = both @ weight
    covariance = ((both - middle[:, None]) * weight) @ (both - middle[:, None]).T
    covariance[1, 1] += variance @ weight
    return Exact(("log_sigma", "end"), middle, covariance)


def boarding_school_flu(cases: np.ndarray) -> Exact:
    """Return the posterior of beta, gamma, R0, phi_inv and log phi given daily counts from day 1.

    Grinsztajn et al. (2021): one infected of 763 boys on day 0, negative binomial counts. Quadrature
    over beta, gamma and log phi_inv; meant for a week of counts and more, when the grid holds the
    posterior.
    """
    days = np.arange(1, len(cases) + 1)
    beta, gamma = np.meshgrid(np.linspace(1.3, 2.3, 81), np.linspace(0.25, 0.95, 81), indexing="ij")
    beta, gamma = beta.ravel(), gamma.ravel()
    log_phi_inv = np.linspace(np.log(0.003), np.log(2.5), 61)
    phi = np.exp(-log_phi_inv)[:, None, None]
    infectious = sir(beta, gamma, np.full_like(beta, BOYS - 1), np.ones_like(beta), BOYS, days)[1]
    log_likelihood = stats.nbinom.logpmf(cases, phi, phi / (phi + infectious)).sum(axis=-1)
    log_prior = stats.norm.logpdf(beta, 2, 1) + stats.norm.logpdf(gamma, 0.4, 0.5)
    # The last term is the Jacobian of the grid in log phi_inv.
    log_prior = log_prior + (stats.expon.logpdf(1 / phi[..., 0], scale=1 / 5) - np.log(phi[..., 0]))
    weight = np.exp(log_likelihood + log_prior - (log_likelihood + log_prior).max())
    weight /= weight.sum()
    columns = [beta, gamma, beta / gamma, 1 / phi[..., 0], np.log(phi[..., 0])]
    values = np.stack([np.broadcast_to(column, weight.shape).ravel() for column in columns], axis=1)
    mean = weight.ravel() @ values
    covariance = (weight.ravel()[:, None] * (values - mean)).T @ (values - mean)
    return Exact(("beta", "gamma", "R0", "phi_inv", "log_phi"), mean, covariance)


def sir(
    beta: np.ndarray, gamma: np.ndarray, s0: np.ndarray, i0: np.ndarray, population: float, times: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Solve the SIR equations of many parameter pairs; returns s and i, both [pair, time]."""

    def slope(_: float, state: np.ndarray) -> np.ndarray:
        s, i = state.reshape(2, -1)
        infections = beta * s * i / population
        return np.concatenate([-infections, infections - gamma * i])

    solution = solve_ivp(
        slope, (0, times[-1]), np.concatenate([s0, i0]), "DOP853", t_eval=times, rtol=1e-9, atol=1e-9
    )
    s, i = solution.y.reshape(2, len(s0), len(times))
    return s, i
