"""Bicycles hired by the hour: a negative binomial regression."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

PREDICTORS = (
    "temp",
    "hum",
    "windspeed",
    "workingday",
    "holiday",
    "t_mist",
    "t_bad_weather",
    "t_sin24",
    "t_cos24",
    "t_sin12",
    "t_cos12",
)


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: count ~ NegBinomial(exp(alpha + X beta), phi)."""
    with pm.Model(coords={"predictor": PREDICTORS}) as model:
        predictors = pm.Data("predictors", batch[list(PREDICTORS)].to_numpy())
        hired = pm.Data("hired", batch["count"].to_numpy())
        alpha = pm.Normal("alpha", 5, 2.5)
        beta = pm.Normal("beta", 0, 2.5, dims="predictor")
        phi = pm.LogNormal("phi", 0, 1)
        pm.Deterministic("log_phi", pm.math.log(phi))  # as the reference has it
        pm.NegativeBinomial("count", mu=pm.math.exp(alpha + predictors @ beta), alpha=phi, observed=hired)
    return model


declaration = Declaration(
    name="stream_bike_hourly",
    build=build,
    schema=pa.schema(
        [pa.field(name, pa.int64(), nullable=False) for name in ("row", "count")]
        + [pa.field(name, pa.float64(), nullable=False) for name in PREDICTORS]
    ),
    row_key=("row",),
    observed=("count",),
    description="Hourly counts by month, with growth from year to year and seasons that the model lacks.",
)
