"""Exact posteriors of the drift benchmark beside independent integrations of SciPy's densities."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import integrate, stats
from threadpoolctl import threadpool_limits

from benchmarks.drift.streams import every_stream
from benchmarks.drift.truth import exact, on_a_line, on_a_plane

Density = Callable[..., np.ndarray]


def by_grid(axes: list[np.ndarray], log_density: Density, values: dict[str, Density]) -> dict[str, tuple]:
    """Integrate on a dense rectangle in the parameters' own scale."""
    grid = np.meshgrid(*axes, indexing="ij")
    at = log_density(*grid)
    weight = np.exp(at - at.max())
    weight /= weight.sum()
    found = {}
    for name, value in values.items():
        shown = value(*grid)
        mean = (weight * shown).sum()
        found[name] = (mean, np.sqrt((weight * (shown - mean) ** 2).sum()))
    return found


def same(found: dict, expected: dict, tolerance: float = 1e-4) -> None:
    """Compare means in sds, and sds by their ratio."""
    assert set(found) == set(expected)
    for name, (mean, sd) in expected.items():
        assert found[name][0] == pytest.approx(mean, abs=tolerance * sd), name
        assert found[name][1] == pytest.approx(sd, rel=tolerance), name


def summed(log_density: Density, y: np.ndarray, *parameters: np.ndarray) -> np.ndarray:
    return sum(log_density(one, *parameters) for one in y)


@pytest.mark.parametrize("counts", [[0, 0, 0], [3, 5, 2, 4]])
def test_poisson(counts: list[int]) -> None:
    rate = np.exp(np.linspace(-25, 4, 20_001))

    def log_density(at: np.ndarray) -> np.ndarray:
        # On a grid in the log rate: times the rate.
        return stats.gamma.logpdf(at, 1, scale=1 / 2) + summed(stats.poisson.logpmf, counts, at) + np.log(at)

    expected = by_grid([rate], log_density, {"rate": lambda r: r, "log rate": np.log})
    same(exact("poisson", pd.DataFrame({"n": counts})), expected)


@pytest.mark.parametrize("hits", [[0, 1], [5, 7, 2]])
def test_binomial(hits: list[int]) -> None:
    logit = np.linspace(-15, 10, 20_001)

    def log_density(at: np.ndarray) -> np.ndarray:
        theta = 1 / (1 + np.exp(-at))
        prior = stats.beta.logpdf(theta, 2, 3) + np.log(theta * (1 - theta))
        return prior + sum(stats.binom.logpmf(k, 20, theta) for k in hits)

    values = {"theta": lambda at: 1 / (1 + np.exp(-at)), "logit theta": lambda at: at}
    found = exact("binomial", pd.DataFrame({"k": hits, "trials": [20] * len(hits)}))
    same(found, by_grid([logit], log_density, values))


@pytest.mark.parametrize("count", [1, 3, 400])
def test_scale(count: int) -> None:
    y = np.random.default_rng(count).normal(0, 0.7, count)
    log_sigma = np.linspace(-8, 4, 20_001)

    def log_density(u: np.ndarray) -> np.ndarray:
        sigma = np.exp(u)
        return stats.halfnorm.logpdf(sigma, 0, 5) + u + summed(stats.norm.logpdf, y, 0, sigma)

    expected = by_grid([log_sigma], log_density, {"sigma": np.exp, "log sigma": lambda u: u})
    same(exact("scale", pd.DataFrame({"y": y})), expected)


@threadpool_limits.wrap(limits=1, user_api="blas")
@pytest.mark.parametrize(("rows", "size"), [(4, 2), (3, 5), (12, 5), (60, 19)])
def test_regression(rows: int, size: int) -> None:
    """Simpson's rule over log sigma of the marginal likelihood by its covariance matrix of all rows."""
    rng = np.random.default_rng(rows)
    x = rng.normal(size=(rows, size))
    y = x @ rng.normal(size=size) + rng.normal(size=rows)

    def given(u: float) -> tuple[float, np.ndarray, np.ndarray]:
        sigma = np.exp(u)
        marginal = 100 * x @ x.T + sigma**2 * np.eye(rows)
        density = stats.multivariate_normal.logpdf(y, np.zeros(rows), marginal, allow_singular=True)
        covariance = np.linalg.inv(x.T @ x / sigma**2 + np.eye(size) / 100)
        mean = covariance @ x.T @ y / sigma**2
        return density + stats.halfnorm.logpdf(sigma, 0, 5) + u, mean, np.diag(covariance) + mean**2

    at = np.linspace(-9, 3.2, 801)
    log_weights, means, squares = (np.array(part) for part in zip(*map(given, at), strict=True))
    weights = np.exp(log_weights - log_weights.max())
    total = integrate.simpson(weights, x=at)

    def mean_of(values: np.ndarray) -> np.ndarray:
        return integrate.simpson(weights[:, None] * values.reshape(len(at), -1), x=at, axis=0) / total

    center = mean_of(means)
    spread = np.sqrt(mean_of(squares) - center**2)
    expected = {f"beta[x{i}]": (center[i], spread[i]) for i in range(size)}
    for name, value in (("sigma", np.exp(at)), ("log sigma", at)):
        mean = mean_of(value)[0]
        expected[name] = (mean, np.sqrt(mean_of((value - mean) ** 2)[0]))
    frame = pd.DataFrame({f"x{i}": x[:, i] for i in range(size)} | {"y": y})
    # With fewer rows than parameters the scale's density reaches below the grid, with a share of 1e-3 or so.
    same(exact("regression6", frame), expected, 1e-5 if rows > size else 3e-3)


def test_line() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(size=8)
    frame = pd.DataFrame({"x": x, "y": 1 + 0.5 * x + rng.normal(size=8)})

    def log_density(a: np.ndarray, b: np.ndarray, u: np.ndarray) -> np.ndarray:
        found = stats.norm.logpdf(a, 0, 10) + stats.norm.logpdf(b, 0, 10)
        found = found + stats.halfnorm.logpdf(np.exp(u), 0, 5) + u
        return found + sum(
            stats.norm.logpdf(row.y, a + b * row.x, np.exp(u)) for row in frame.itertuples(index=False)
        )

    axes = [np.linspace(-11, 13, 121), np.linspace(-11, 12, 121), np.linspace(-1.6, 2.6, 61)]
    values = {
        "a": lambda a, b, u: a,
        "b": lambda a, b, u: b,
        "sigma": lambda a, b, u: np.exp(u),
        "log sigma": lambda a, b, u: u,
    }
    same(exact("line", frame), by_grid(axes, log_density, values), 2e-3)


def test_heteroscedastic() -> None:
    rng = np.random.default_rng(4)
    x, w = rng.normal(size=40), np.repeat(np.linspace(-1, 1, 5), 8)
    frame = pd.DataFrame({"x": x, "w": w, "y": 1 + 0.5 * x + np.exp(0.5 * w) * rng.normal(size=40)})

    def log_density(a: np.ndarray, b: np.ndarray, s: np.ndarray, t: np.ndarray) -> np.ndarray:
        priors = ((a, 10), (b, 10), (s, 1.5), (t, 1))
        found = sum(stats.norm.logpdf(value, 0, sd) for value, sd in priors)
        for row in frame.itertuples(index=False):
            log_noise = s + t * row.w
            found = found - log_noise - 0.5 * ((row.y - a - b * row.x) * np.exp(-log_noise)) ** 2
        return found

    axes = [np.linspace(-0.2, 2, 27), np.linspace(-0.6, 1.6, 27), np.linspace(-0.8, 0.9, 27)]
    axes.append(np.linspace(-0.8, 1.6, 27))
    values = {name: lambda *at, i=i: at[i] for i, name in enumerate("abst")}
    same(exact("heteroscedastic", frame), by_grid(axes, log_density, values), 2e-3)


@pytest.mark.parametrize("count", [5, 100])
def test_student(count: int) -> None:
    y = 1 + np.random.default_rng(count).standard_t(4, count)

    def log_density(mu: np.ndarray, u: np.ndarray) -> np.ndarray:
        sigma = np.exp(u)
        prior = stats.norm.logpdf(mu, 0, 10) + stats.halfnorm.logpdf(sigma, 0, 5) + u
        return prior + summed(lambda one, m, s: stats.t.logpdf(one, 4, m, s), y, mu, sigma)

    wide = 14 if count == 5 else 1
    axes = [np.linspace(1 - wide, 1 + wide, 601), np.linspace(-2.2, 3.2, 301)]
    values = {"mu": lambda mu, u: mu, "sigma": lambda mu, u: np.exp(u), "log sigma": lambda mu, u: u}
    same(exact("student", pd.DataFrame({"y": y})), by_grid(axes, log_density, values))


@pytest.mark.parametrize("model", ["logistic", "loglinear"])
@pytest.mark.parametrize("count", [4, 60])
def test_linked(model: str, count: int) -> None:
    rng = np.random.default_rng(count)
    x = rng.choice(np.linspace(-2, 2, 9), count)
    y = rng.binomial(1, 0.4, count) if model == "logistic" else rng.poisson(1.5, count)

    def log_density(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        found = stats.norm.logpdf(a, 0, 2.5) + stats.norm.logpdf(b, 0, 2.5)
        for one, at in zip(y, x, strict=True):
            mean = np.exp(a + b * at)
            if model == "logistic":
                found = found + stats.bernoulli.logpmf(one, mean / (1 + mean))
            else:
                found = found + stats.poisson.logpmf(one, mean)
        return found

    axes = [np.linspace(-12, 12, 401)] * 2
    frame = pd.DataFrame({"x": x, "y" if model == "logistic" else "n": y})
    same(exact(model, frame), by_grid(axes, log_density, {"a": lambda a, b: a, "b": lambda a, b: b}), 1e-3)


def test_a_narrow_density_far_out_is_found() -> None:
    at, weight = on_a_line(lambda u: -0.5 * ((u + 41.3) / 1e-3) ** 2)
    mean = weight @ at
    assert mean == pytest.approx(-41.3, abs=1e-9)
    assert np.sqrt(weight @ (at - mean) ** 2) == pytest.approx(1e-3, rel=1e-6)


def test_a_skewed_plane_is_integrated_to_its_tail() -> None:
    """Log of a Gamma(2) beside a normal that correlates with it."""

    def log_density(point: np.ndarray) -> np.ndarray:
        u, v = point.T
        return 2 * u - np.exp(u) - 0.5 * ((v - u) / 0.01) ** 2

    point, weight = on_a_plane(log_density, np.zeros(2))
    mean = weight @ point
    assert mean == pytest.approx([0.4227843351] * 2, abs=1e-6)
    variance = weight @ (point - mean) ** 2
    assert variance == pytest.approx([0.6449340668, 0.6449340668 + 1e-4], rel=1e-6)


def test_streams_are_as_many_and_as_different_as_stated() -> None:
    streams = every_stream()
    names = {stream.name for stream in streams}
    known = [name for name in names if name.startswith("known")]
    assert len(names) == len(streams) == 200 + len(known)
    assert len(known) == 7
    assert {stream.links for stream in streams} >= {20, 200}
    assert min(stream.total for stream in streams) == 100
    assert sum(stream.total > 5000 for stream in streams) > 40
