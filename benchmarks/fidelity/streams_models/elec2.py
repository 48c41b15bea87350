"""Electricity prices of New South Wales: does the price go up? A logistic regression (Elec2)."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

PREDICTORS = (
    "t_nswprice",
    "t_nswdemand",
    "t_vicprice",
    "t_vicdemand",
    "t_transfer",
    "t_sin24",
    "t_cos24",
)


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Bernoulli(logit^-1(alpha + X beta)), alpha and beta ~ Normal(0, 5)."""
    with pm.Model(coords={"predictor": PREDICTORS}) as model:
        predictors = pm.Data("predictors", batch[list(PREDICTORS)].to_numpy())
        went_up = pm.Data("went_up", batch["y"].to_numpy().astype("int64"))
        alpha = pm.Normal("alpha", 0, 5)
        beta = pm.Normal("beta", 0, 5, dims="predictor")
        pm.Bernoulli("y", logit_p=alpha + predictors @ beta, observed=went_up)
    return model


declaration = Declaration(
    name="stream_elec2",
    build=build,
    schema=pa.schema(
        [pa.field(name, pa.int64(), nullable=False) for name in ("row", "y")]
        + [pa.field(name, pa.float64(), nullable=False) for name in PREDICTORS]
    ),
    row_key=("row",),
    observed=("y",),
    description="Price moves by month, with coefficients that drift and predictors that wake up late.",
)
