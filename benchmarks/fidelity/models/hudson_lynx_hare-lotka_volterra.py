"""Hares and lynxes of the Hudson Bay (posteriordb, lotka_volterra): every batch integrates from year 0."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor
import pytensor.tensor as pt

from lindley import Declaration

STEPS_PER_YEAR = 10


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: hare and lynx ~ LogNormal(log z(t), sigma), z(0) = z_init."""
    coords = {"rate": ("1", "2", "3", "4"), "species": ("1", "2")}
    with pm.Model(coords=coords) as model:
        year = pm.Data("year_seen", batch["t"].to_numpy().astype("int64"))
        hares = pm.Data("hares", batch["hare"].to_numpy())
        lynxes = pm.Data("lynxes", batch["lynx"].to_numpy())

        scale = np.array([0.5, 0.05, 0.5, 0.05])
        theta = pm.TruncatedNormal("theta", np.array([1, 0.05, 1, 0.05]), scale, lower=0, dims="rate")
        z_init = pm.LogNormal("z_init", np.log(10), 1, dims="species")
        sigma = pm.LogNormal("sigma", -1, 1, dims="species")

        log_hare, log_lynx = lotka_volterra(theta, pt.log(z_init), year.max())
        pm.LogNormal("hare", log_hare[year], sigma[0], observed=hares)
        pm.LogNormal("lynx", log_lynx[year], sigma[1], observed=lynxes)
    return model


def lotka_volterra(
    theta: pt.TensorVariable, log_z: pt.TensorVariable, years: pt.TensorVariable
) -> tuple[pt.TensorVariable, pt.TensorVariable]:
    """Integrate d log u/dt = theta1 - theta2 v, d log v/dt = theta4 u - theta3 by Runge-Kutta steps.

    Returns
    -------
    tuple
        Logarithms of hares u and lynxes v at the years 0 to `years`, both (year,).
    """
    h = 1 / STEPS_PER_YEAR

    def slope(log_u, log_v, theta1, theta2, theta3, theta4):
        return theta1 - theta2 * pt.exp(log_v), theta4 * pt.exp(log_u) - theta3

    def step(log_u, log_v, *theta):
        u1, v1 = slope(log_u, log_v, *theta)
        u2, v2 = slope(log_u + h / 2 * u1, log_v + h / 2 * v1, *theta)
        u3, v3 = slope(log_u + h / 2 * u2, log_v + h / 2 * v2, *theta)
        u4, v4 = slope(log_u + h * u3, log_v + h * v3, *theta)
        return (
            log_u + h / 6 * (u1 + 2 * u2 + 2 * u3 + u4),
            log_v + h / 6 * (v1 + 2 * v2 + 2 * v3 + v4),
        )

    paths = pytensor.scan(
        step,
        outputs_info=[log_z[0], log_z[1]],
        non_sequences=[theta[0], theta[1], theta[2], theta[3]],
        n_steps=years * STEPS_PER_YEAR,
        return_updates=False,
    )
    ends = slice(STEPS_PER_YEAR - 1, None, STEPS_PER_YEAR)
    log_u, log_v = (pt.concatenate([log_z[i][None], path[ends]]) for i, path in enumerate(paths))
    return log_u, log_v


declaration = Declaration(
    name="hudson_lynx_hare_lotka_volterra",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("t", pa.float64(), nullable=False),
            pa.field("hare", pa.float64(), nullable=False),
            pa.field("lynx", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("hare", "lynx"),
    description="Lotka-Volterra with lognormal errors, two years a batch, each from year 0.",
)
