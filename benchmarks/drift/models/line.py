"""A line with unknown noise: three parameters."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(a + b x, sigma)."""
    with pm.Model() as model:
        x = pm.Data("x", batch["x"].to_numpy())
        seen = pm.Data("seen", batch["y"].to_numpy())
        a = pm.Normal("a", 0, 10)
        b = pm.Normal("b", 0, 10)
        sigma = pm.HalfNormal("sigma", 5)
        pm.Normal("y", a + b * x, sigma, observed=seen)
    return model


declaration = Declaration(
    name="line",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("x", pa.float64(), nullable=False),
            pa.field("y", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="Normal given the noise, whose posterior is one integral.",
)
