"""Autoregression of order 5 (posteriordb, arK): rows factorise given the lag columns."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

LAGS = ("t_lag1", "t_lag2", "t_lag3", "t_lag4", "t_lag5")


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(alpha + beta . lags, sigma)."""
    with pm.Model(coords={"lag": ("1", "2", "3", "4", "5")}) as model:
        lags = pm.Data("lags", batch[list(LAGS)].to_numpy())
        observed = pm.Data("observed", batch["y"].to_numpy())
        alpha = pm.Normal("alpha", 0, 10)
        beta = pm.Normal("beta", 0, 10, dims="lag")
        sigma = pm.HalfCauchy("sigma", 2.5)
        pm.Normal("y", alpha + lags @ beta, sigma, observed=observed)
    return model


declaration = Declaration(
    name="ark_ark",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("y", pa.float64(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in LAGS),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="Autoregression of order 5 with the lags as columns, in order of time.",
)
