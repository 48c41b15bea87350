"""A line whose log noise depends on a second predictor: four parameters."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(a + b x, exp(s + t w))."""
    with pm.Model() as model:
        x = pm.Data("x", batch["x"].to_numpy())
        w = pm.Data("w", batch["w"].to_numpy())
        seen = pm.Data("seen", batch["y"].to_numpy())
        a = pm.Normal("a", 0, 10)
        b = pm.Normal("b", 0, 10)
        s = pm.Normal("s", 0, 1.5)
        t = pm.Normal("t", 0, 1)
        pm.Normal("y", a + b * x, pm.math.exp(s + t * w), observed=seen)
    return model


declaration = Declaration(
    name="heteroscedastic",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("x", pa.float64(), nullable=False),
            pa.field("w", pa.float64(), nullable=False),
            pa.field("y", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="Normal given s and t, whose posterior is two integrals.",
)
