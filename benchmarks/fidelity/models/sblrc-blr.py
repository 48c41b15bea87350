"""Bayesian linear regression on correlated predictors (posteriordb, blr): no intercept, proper priors."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

PREDICTORS = ("x1", "x2", "x3", "x4", "x5")


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(X beta, sigma)."""
    with pm.Model(coords={"predictor": ("1", "2", "3", "4", "5")}) as model:
        x = pm.Data("x", batch[list(PREDICTORS)].to_numpy())
        observed = pm.Data("observed", batch["y"].to_numpy())
        beta = pm.Normal("beta", 0, 10, dims="predictor")
        sigma = pm.HalfNormal("sigma", 10)
        pm.Normal("y", x @ beta, sigma, observed=observed)
    return model


declaration = Declaration(
    name="sblrc_blr",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in PREDICTORS),
            pa.field("y", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="Linear regression on five correlated predictors with proper priors.",
)
