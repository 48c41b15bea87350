"""Exact posteriors of the models in `models/`, without any sampling: closed forms and quadrature.

Each function takes all rows so far and returns mean and sd by quantity: the parameters, and for a parameter
with bounds also its unconstrained coordinate (``log sigma``). Nothing here uses the models' code.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from scipy import optimize, special

#: Mean and sd by quantity.
Moments = dict[str, tuple[float, float]]
LogDensity = Callable[[np.ndarray], np.ndarray]

#: Sd of the coefficients' normal priors, and of the half-normal prior of a scale.
COEFFICIENT, SCALE = 10.0, 5.0
#: Sds of the normal priors of the log noise's two coefficients, and of those of logits and log rates.
LOG_NOISE, LINK = (1.5, 1.0), 2.5
FREEDOM = 4
#: A density is integrated where it is above exp(-_DROP) of its maximum.
_DROP = 32.0
#: Largest step of a plane's grid, in sds of the normal approximation: the trapezoid rule's error falls with
#: exp(-2 pi^2 / step^2) for a normal.
_STEP = 0.25
#: Elements of an array of rows by points that are evaluated at once.
_CHUNK = 4_000_000


def exact(model: str, rows: pd.DataFrame) -> Moments:
    """Return the posterior's mean and sd by quantity, given all rows of a model's stream so far."""
    return _TRUTHS[model](rows)


def poisson(rows: pd.DataFrame) -> Moments:
    """Return the posterior of a rate ~ Gamma(1, 2): conjugate."""
    shape, inverse = 1 + rows["n"].sum(), 2 + len(rows)
    return {
        "rate": (shape / inverse, np.sqrt(shape) / inverse),
        "log rate": (special.digamma(shape) - np.log(inverse), np.sqrt(special.polygamma(1, shape))),
    }


def binomial(rows: pd.DataFrame) -> Moments:
    """Return the posterior of a probability ~ Beta(2, 3): conjugate."""
    hits = 2 + rows["k"].sum()
    misses = 3 + (rows["trials"] - rows["k"]).sum()
    mean = hits / (hits + misses)
    spread = special.polygamma(1, hits) + special.polygamma(1, misses)
    return {
        "theta": (mean, np.sqrt(mean * (1 - mean) / (hits + misses + 1))),
        "logit theta": (special.digamma(hits) - special.digamma(misses), np.sqrt(spread)),
    }


def scale(rows: pd.DataFrame) -> Moments:
    """Return the posterior of a normal's sd with known mean: one integral."""
    count, square = len(rows), float((rows["y"] ** 2).sum())

    def log_density(u: np.ndarray) -> np.ndarray:
        return -count * u - 0.5 * square * np.exp(-2 * u) + log_scale_prior(u)

    u, weight = on_a_line(log_density)
    return _named({"sigma": np.exp(u), "log sigma": u}, weight)


def regression(rows: pd.DataFrame, names: tuple[str, ...] = ()) -> Moments:
    """Return the posterior of a linear regression with unknown noise: normal given the noise, one integral.

    Parameters
    ----------
    rows
        Columns x0, x1, ... and y, or x and y for the line a + b x.
    names
        Names of the coefficients; ``beta[x0]`` and so on by default.
    """
    if names:
        design = np.column_stack([np.ones(len(rows)), rows["x"]])
    else:
        columns = [column for column in rows.columns if column.startswith("x")]
        names, design = tuple(f"beta[{column}]" for column in columns), rows[columns].to_numpy()
    y = rows["y"].to_numpy()
    left, singular, right = np.linalg.svd(design, full_matrices=False)
    pulled = left.T @ y
    free = len(y) - len(singular)
    residual = float(((y - left @ pulled) ** 2).sum()) if free else 0.0

    def log_density(u: np.ndarray) -> np.ndarray:
        rest = -free * u - 0.5 * residual * np.exp(-2 * u) + log_scale_prior(u)
        return rest + coefficients(singular, pulled, np.exp(2 * u))[0]

    u, weight = on_a_line(log_density)
    _, means, variances = coefficients(singular, pulled, np.exp(2 * u))
    center = weight @ means
    inner = np.diag(weight @ variances) + (weight[:, None] * (means - center)).T @ (means - center)
    covariance = right.T @ inner @ right + COEFFICIENT**2 * (np.eye(len(names)) - right.T @ right)
    sds = np.sqrt(np.diag(covariance))
    found = dict(zip(names, zip((center @ right).tolist(), sds.tolist(), strict=True), strict=True))
    return found | _named({"sigma": np.exp(u), "log sigma": u}, weight)


def coefficients(
    singular: np.ndarray, pulled: np.ndarray, variance: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Integrate normal coefficients out, in the basis of the design's singular vectors.

    Parameters
    ----------
    singular, pulled
        Singular values of the design and projections of the outcome on its left vectors, [..., direction].
    variance
        Variances of the noise, [...].

    Returns
    -------
    tuple
        The log marginal likelihood of the projections [...], and means and variances [..., direction] of the
        coefficients in this basis, given the noise.
    """
    prior, noise = COEFFICIENT**2, variance[..., None]
    spread = noise + prior * singular**2
    log_likelihood = -0.5 * (np.log(spread) + pulled**2 / spread).sum(axis=-1)
    return log_likelihood, prior * singular * pulled / spread, prior * noise / spread


def heteroscedastic(rows: pd.DataFrame) -> Moments:
    """Return the posterior of a line whose log noise is s + t w: normal given s and t, two integrals.

    Rows with the same w have the same noise; their triangular factor holds all that the line needs.
    """
    counts, levels, factors = [], [], []
    for level, part in rows.groupby("w"):
        table = np.column_stack([np.ones(len(part)), part["x"], part["y"]])
        table = np.vstack([table, np.zeros((3, 3))])
        factors.append(np.linalg.qr(table, mode="r"))
        counts.append(len(part))
        levels.append(level)
    many, at, triangles = np.array(counts), np.array(levels), np.array(factors)

    def given(point: np.ndarray) -> tuple[np.ndarray, ...]:
        log_noise = point[:, :1] + point[:, 1:] * at
        stacked = (triangles * np.exp(-log_noise)[..., None, None]).reshape(len(point), -1, 3)
        upper = np.linalg.qr(stacked, mode="r")
        left, singular, right = np.linalg.svd(upper[:, :2, :2])
        pulled = np.einsum("pij,pi->pj", left, upper[:, :2, 2])
        line, means, variances = coefficients(singular, pulled, np.ones(len(point)))
        log_likelihood = line - 0.5 * upper[:, 2, 2] ** 2 - log_noise @ many
        prior = -0.5 * ((point / np.array(LOG_NOISE)) ** 2).sum(axis=1)
        return log_likelihood + prior, means, variances, right

    point, weight = on_a_plane(lambda at: given(at)[0], np.zeros(2))
    _, means, variances, right = given(point)
    lines = np.einsum("pji,pj->pi", right, means)
    spreads = np.einsum("pji,pj->pi", right**2, variances)
    center = weight @ lines
    sds = np.sqrt(weight @ (spreads + (lines - center) ** 2))
    found = {name: (float(center[i]), float(sds[i])) for i, name in enumerate(("a", "b"))}
    return found | _named({"s": point[:, 0], "t": point[:, 1]}, weight)


def student(rows: pd.DataFrame) -> Moments:
    """Return the posterior of location and scale of a Student t with `FREEDOM` degrees: two integrals."""
    y = rows["y"].to_numpy()

    def log_density(point: np.ndarray) -> np.ndarray:
        found = np.empty(len(point))
        step = max(1, _CHUNK // len(y))
        for first in range(0, len(point), step):
            mu, u = point[first : first + step, :1], point[first : first + step, 1:]
            tails = np.log1p(((y - mu) * np.exp(-u)) ** 2 / FREEDOM).sum(axis=1)
            found[first : first + step] = -0.5 * (FREEDOM + 1) * tails
        mu, u = point.T
        return found - len(y) * u - 0.5 * (mu / COEFFICIENT) ** 2 + log_scale_prior(u)

    middle = np.median(y)
    start = np.array([middle, np.log(np.median(np.abs(y - middle)) + 1e-3)])
    point, weight = on_a_plane(log_density, start)
    mu, u = point.T
    return _named({"mu": mu, "sigma": np.exp(u), "log sigma": u}, weight)


def linked(rows: pd.DataFrame, outcome: str, log_partition: LogDensity) -> Moments:
    """Return the posterior of intercept and slope of a logistic or Poisson regression: two integrals.

    Parameters
    ----------
    rows, outcome
        A column x with few distinct values, and the outcome's name.
    log_partition
        The family's log partition function of the linear predictor.
    """
    level, where = np.unique(rows["x"].to_numpy(), return_inverse=True)
    total = np.bincount(where, weights=rows[outcome].to_numpy())
    many = np.bincount(where)

    def log_density(point: np.ndarray) -> np.ndarray:
        predictor = point[:, :1] + point[:, 1:] * level
        prior = -0.5 * ((point / LINK) ** 2).sum(axis=1)
        return predictor @ total - log_partition(predictor) @ many + prior

    point, weight = on_a_plane(log_density, np.zeros(2))
    return _named({"a": point[:, 0], "b": point[:, 1]}, weight)


def log_scale_prior(u: np.ndarray) -> np.ndarray:
    """Return the log density of log sigma, up to a constant, for sigma ~ HalfNormal(`SCALE`)."""
    return u - 0.5 * (np.exp(u) / SCALE) ** 2


def on_a_line(
    log_density: LogDensity, low: float = -60.0, high: float = 12.0
) -> tuple[np.ndarray, np.ndarray]:
    """Return points and weights that integrate a density with one mode, by the trapezoid rule.

    Parameters
    ----------
    log_density
        Up to a constant, at points [point].
    low, high
        Where the mode is looked for.
    """
    for _ in range(6):
        at = np.linspace(low, high, 1001)
        best = int(np.argmax(log_density(at)))
        low, high = at[max(best - 1, 0)], at[min(best + 1, 1000)]
    mode, top = at[best], log_density(at[best : best + 1])[0]
    reach = 1e-3 * 1.2 ** np.arange(70)
    ends = [
        mode + sign * reach[np.argmax(log_density(mode + sign * reach) < top - _DROP)] for sign in (-1, 1)
    ]
    points = np.linspace(*ends, 4001)
    return points, _normalised(log_density(points))


def on_a_plane(log_density: LogDensity, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return points [point, 2] and weights that integrate a density with one mode, by the trapezoid rule.

    The grid is a rectangle in the coordinates in which the density is nearly a standard normal. Its sides
    move out until the density on them is negligible.

    Parameters
    ----------
    log_density
        Up to a constant, at points [point, 2].
    start
        Where the search for the mode starts.
    """

    def negative(at: np.ndarray) -> float:
        return -float(log_density(at[None])[0])

    mode = optimize.minimize(negative, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9}).x
    factor = _spread(log_density, mode)
    sides = np.array([[-6.0, 6.0], [-6.0, 6.0]])
    for _ in range(60):
        axes = [np.linspace(*side, 41) for side in sides]
        values = log_density(_rectangle(mode, factor, axes)).reshape(41, 41)
        edges = np.array([[values[0].max(), values[-1].max()], [values[:, 0].max(), values[:, -1].max()]])
        open_ends = edges > values.max() - _DROP
        if not open_ends.any():
            break
        sides = np.where(open_ends, 1.25 * sides, sides)
    axes = [np.linspace(*side, int(np.ptp(side) / _STEP) + 2) for side in sides]
    points = _rectangle(mode, factor, axes)
    return points, _normalised(log_density(points))


def _spread(log_density: LogDensity, mode: np.ndarray) -> np.ndarray:
    """Return the Cholesky factor of the normal approximation's covariance at a mode."""
    factor = np.eye(2)
    for step in (1e-3, 1e-2, 1e-1):
        # Twice in the coordinates found before, so that the step suits the width.
        move = step * factor.T
        first, second = move
        points = [mode + i * first + j * second for i in (-1, 0, 1) for j in (-1, 0, 1)]
        value = log_density(np.array(points)).reshape(3, 3)
        diagonal = [
            2 * value[1, 1] - value[0, 1] - value[2, 1],
            2 * value[1, 1] - value[1, 0] - value[1, 2],
        ]
        mixed = -(value[2, 2] - value[2, 0] - value[0, 2] + value[0, 0]) / 4
        precision = np.array([[diagonal[0], mixed], [mixed, diagonal[1]]]) / step**2
        if np.all(np.linalg.eigvalsh(precision) > 0):
            factor = factor @ np.linalg.cholesky(np.linalg.inv(precision))
    return factor


def _rectangle(mode: np.ndarray, factor: np.ndarray, axes: list[np.ndarray]) -> np.ndarray:
    first, second = np.meshgrid(*axes, indexing="ij")
    return mode + np.column_stack([first.ravel(), second.ravel()]) @ factor.T


def _normalised(log_weight: np.ndarray) -> np.ndarray:
    weight = np.exp(log_weight - log_weight.max())
    return weight / weight.sum()


def _named(values: dict[str, np.ndarray], weight: np.ndarray) -> Moments:
    means = {name: float(weight @ value) for name, value in values.items()}
    return {
        name: (means[name], float(np.sqrt(weight @ (value - means[name]) ** 2)))
        for name, value in values.items()
    }


_TRUTHS: dict[str, Callable[[pd.DataFrame], Moments]] = {
    "poisson": poisson,
    "binomial": binomial,
    "scale": scale,
    "line": partial(regression, names=("a", "b")),
    "regression6": regression,
    "regression20": regression,
    "heteroscedastic": heteroscedastic,
    "student": student,
    "logistic": partial(linked, outcome="y", log_partition=lambda eta: np.logaddexp(0.0, eta)),
    "loglinear": partial(linked, outcome="n", log_partition=np.exp),
}
