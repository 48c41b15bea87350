"""Regression on 19 predictors with unknown noise: 20 parameters."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

PREDICTORS = tuple(f"x{i}" for i in range(19))


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(x beta, sigma)."""
    with pm.Model(coords={"predictor": PREDICTORS}) as model:
        x = pm.Data("x", batch[list(PREDICTORS)].to_numpy())
        seen = pm.Data("seen", batch["y"].to_numpy())
        beta = pm.Normal("beta", 0, 10, dims="predictor")
        sigma = pm.HalfNormal("sigma", 5)
        pm.Normal("y", x @ beta, sigma, observed=seen)
    return model


declaration = Declaration(
    name="regression20",
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
    description="Normal given the noise, whose posterior is one integral.",
)
