"""Compare the oracles with brute force, and the conjugate models with the oracles."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lindley.model.declaration import load_declaration
from tests.support import oracles

MODELS = Path(__file__).parents[1] / "models"
COINS = pd.DataFrame({"id": range(12), "k": [1, 0, 2] * 4, "n": [3, 2, 5] * 4})
MEANS = pd.DataFrame({"id": range(12), "y": np.linspace(-1, 4, 12)})


def check_moments(exact, grid, log_density) -> None:
    weight = np.exp(log_density - log_density.max())
    weight /= weight.sum()
    mean = (weight * grid).sum()
    assert exact.mean() == pytest.approx(mean, rel=1e-6)
    assert exact.std() == pytest.approx(np.sqrt((weight * (grid - mean) ** 2).sum()), rel=1e-5)


def test_conjugate_closed_forms_agree_with_quadrature() -> None:
    theta = np.linspace(1e-4, 1 - 1e-4, 20001)
    exact = oracles.beta_binomial(COINS["k"], COINS["n"])
    k, n = COINS["k"].sum(), COINS["n"].sum()
    check_moments(exact, theta, (1 + k) * np.log(theta) + (2 + n - k) * np.log1p(-theta))
    mu = np.linspace(-10, 10, 20001)
    y = MEANS["y"].to_numpy()
    check_moments(oracles.normal_mean(y), mu, -(mu**2) / 200 - ((y[:, None] - mu) ** 2).sum(axis=0) / 8)


@pytest.mark.parametrize("name", ["beta_binomial", "normal_mean"])
def test_the_conjugate_models_have_the_density_of_their_oracles(name: str) -> None:
    coins = name == "beta_binomial"
    model = load_declaration(name, MODELS).build(COINS if coins else MEANS)
    density = model.compile_logp(jacobian=False, mode="FAST_COMPILE")
    at = np.array([-0.7, 0.1, 0.6])
    here = [float(density({model.value_vars[0].name: np.array(x)})) for x in at]
    if coins:
        exact, natural = oracles.beta_binomial(COINS["k"], COINS["n"]), 1 / (1 + np.exp(-at))
    else:
        exact, natural = oracles.normal_mean(MEANS["y"]), at
    np.testing.assert_allclose(np.diff(here), np.diff(exact.logpdf(natural)), rtol=1e-8)


def test_regression_agrees_with_quadrature_over_all_parameters() -> None:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 2)) @ np.linalg.cholesky([[1, 0.95], [0.95, 1]]).T
    y = x @ [1.0, -0.5] + rng.normal(size=60)
    exact = oracles.regression(x, y, ("x1", "x2"))
    assert exact.names == ("b[x1]", "b[x2]", "sigma")
    sigma = np.linspace(0.5, 2.0, 301)[:, None, None]
    first = np.linspace(-1, 3.5, 181)[:, None]
    second = np.linspace(-3, 2, 201)
    residual = y - first[..., None] * x[:, 0] - second[:, None] * x[:, 1]
    square = (residual**2).sum(axis=-1)
    log_density = -60 * np.log(sigma) - square / (2 * sigma**2) - (first**2 + second**2) / 200
    weight = np.exp(log_density - sigma**2 / 50 - log_density.max())
    weight /= weight.sum()
    for column, values in enumerate((first, second, sigma)):
        mean = (weight * values).sum()
        sd = np.sqrt((weight * (values - mean) ** 2).sum())
        assert exact.mean[column] == pytest.approx(mean, abs=2e-3 * sd)
        assert exact.sd[column] == pytest.approx(sd, rel=2e-3)
