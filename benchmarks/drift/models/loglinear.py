"""A Poisson regression on one predictor."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: n ~ Poisson(exp(a + b x))."""
    with pm.Model() as model:
        x = pm.Data("x", batch["x"].to_numpy())
        seen = pm.Data("seen", batch["n"].to_numpy())
        a = pm.Normal("a", 0, 2.5)
        b = pm.Normal("b", 0, 2.5)
        pm.Poisson("n", pm.math.exp(a + b * x), observed=seen)
    return model


declaration = Declaration(
    name="loglinear",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("x", pa.float64(), nullable=False),
            pa.field("n", pa.int64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("n",),
    description="Two integrals.",
)
