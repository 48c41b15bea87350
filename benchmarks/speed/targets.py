"""The models of the rivals, as their users would write them, and streams of batches for them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
from pymc.distributions import transforms

from benchmarks.speed.posterior import Reference

MODELS = Path(__file__).parents[2] / "models"
OWN_MODELS = Path(__file__).with_name("models")

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """A model of one chain, apart from Lindley's model file of the same name.

    Parameters
    ----------
    chain
        Name of Lindley's chain.
    models
        Folder of its model file.
    shapes, transforms
        Shape and transform of the free variables, by name and in order.
    priors
        Adds the model's own priors to the open model.
    data
        Arrays of a batch by name.
    likelihood
        Adds the likelihood, from variables and data.
    """

    chain: str
    models: Path
    shapes: Mapping[str, tuple[int, ...]]
    transforms: Mapping[str, Any]
    priors: Callable[[], Values]
    data: Callable[[pd.DataFrame], dict[str, np.ndarray]]
    likelihood: Callable[[Values, Values], None]

    @property
    def variables(self) -> tuple[str, ...]:
        return tuple(self.shapes)

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return sum(int(np.prod(shape, dtype=int)) for shape in self.shapes.values())


# -- the regression ---------------------------------------------------------------------------------

_PREDICTORS = ["x1", "x2", "x3"]
_PRIOR_SD, _SIGMA_SCALE = 10.0, 5.0


def _regression_priors() -> Values:
    return {
        "b": pm.Normal("b", 0, _PRIOR_SD, shape=3),
        "sigma": pm.HalfNormal("sigma", _SIGMA_SCALE),
    }


def _regression_likelihood(variables: Values, data: Values) -> None:
    pm.Normal("y", mu=data["x"] @ variables["b"], sigma=variables["sigma"], observed=data["observed"])


REGRESSION = Target(
    chain="regression_stream",
    models=MODELS,
    shapes={"b": (3,), "sigma": ()},
    transforms={"b": None, "sigma": transforms.log},
    priors=_regression_priors,
    data=lambda frame: {"x": frame[_PREDICTORS].to_numpy(), "observed": frame["y"].to_numpy()},
    likelihood=_regression_likelihood,
)


def exact_regression(rows: pd.DataFrame) -> Reference:
    """Return the exact posterior of b and sigma: sigma on a grid, b given sigma normal."""
    x, y = rows[_PREDICTORS].to_numpy(), rows["y"].to_numpy()
    gram, moment, size = x.T @ x, x.T @ y, len(y)
    middle = float(np.sqrt(((y - x @ np.linalg.lstsq(x, y, rcond=None)[0]) ** 2).mean()))
    width = 1 / np.sqrt(2 * size)
    # Wide enough on the right for the heavy tail of sigma after a first small batch.
    grid = np.linspace(middle * max(0.05, 1 - 8 * width), middle * (1 + 12 * width), 4001)
    logs, means, variances = [], [], []
    for sigma in grid:
        precision = gram / sigma**2 + np.eye(3) / _PRIOR_SD**2
        variance = np.linalg.inv(precision)
        mean = variance @ moment / sigma**2
        log = -size * np.log(sigma) - (y @ y / sigma**2 - mean @ precision @ mean) / 2
        logs.append(log - np.linalg.slogdet(precision)[1] / 2 - (sigma / _SIGMA_SCALE) ** 2 / 2)
        means.append(mean)
        variances.append(np.diag(variance))
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    mean = weights @ np.array(means)
    variance = weights @ np.array(variances) + weights @ (np.array(means) - mean) ** 2
    sigma_mean = weights @ grid
    sigma_variance = weights @ (grid - sigma_mean) ** 2
    return Reference(np.append(mean, sigma_mean), np.sqrt(np.append(variance, sigma_variance)))


def simulated_regression(rows: int, seed: int = 20) -> Iterator[pd.DataFrame]:
    """Yield batches without end: y = x1 - x2/2 + x3/4 + Normal(0, 1), predictors equicorrelated at 0.95."""
    rng = np.random.default_rng(seed)
    factor = np.linalg.cholesky(np.full((3, 3), 0.95) + 0.05 * np.eye(3))
    begun = 0
    while True:
        x = rng.standard_normal((rows, 3)) @ factor.T
        frame = pd.DataFrame(x, columns=_PREDICTORS)
        frame["y"] = x @ [1.0, -0.5, 0.25] + rng.standard_normal(rows)
        frame.insert(0, "row", range(begun, begun + rows))
        begun += rows
        yield frame


# -- fifty groups -----------------------------------------------------------------------------------

GROUPS_COUNT = 50


def _group_priors() -> Values:
    mean, spread = pm.Normal("mean", 0, 5), pm.HalfNormal("spread", 2)
    return {
        "mean": mean,
        "spread": spread,
        "sigma": pm.HalfNormal("sigma", 2),
        "level": pm.Normal("level", mean, spread, shape=GROUPS_COUNT),
    }


def _group_likelihood(variables: Values, data: Values) -> None:
    level = variables["level"][data["group"]]
    pm.Normal("y", mu=level, sigma=variables["sigma"], observed=data["observed"])


GROUPS = Target(
    chain="groups",
    models=OWN_MODELS,
    shapes={"mean": (), "spread": (), "sigma": (), "level": (GROUPS_COUNT,)},
    transforms={"mean": None, "spread": transforms.log, "sigma": transforms.log, "level": None},
    priors=_group_priors,
    data=lambda frame: {"group": frame["group"].to_numpy(), "observed": frame["y"].to_numpy()},
    likelihood=_group_likelihood,
)


def simulated_groups(batches: int, seed: int = 50) -> list[pd.DataFrame]:
    """Return batches with 6 to 12 rows of every group: levels Normal(1, 0.8), rows Normal(level, 1)."""
    rng = np.random.default_rng(seed)
    level = rng.normal(1.0, 0.8, GROUPS_COUNT)
    frames, begun = [], 0
    for _ in range(batches):
        group = np.repeat(np.arange(GROUPS_COUNT), rng.integers(6, 13, GROUPS_COUNT))
        y = level[group] + rng.standard_normal(group.size)
        frames.append(pd.DataFrame({"row": range(begun, begun + group.size), "group": group, "y": y}))
        begun += group.size
    return frames


TARGETS = {target.chain: target for target in (REGRESSION, GROUPS)}
