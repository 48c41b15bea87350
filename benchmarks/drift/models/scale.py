"""A normal scale about a known mean."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(0, sigma)."""
    with pm.Model() as model:
        seen = pm.Data("seen", batch["y"].to_numpy())
        sigma = pm.HalfNormal("sigma", 5)
        pm.Normal("y", 0, sigma, observed=seen)
    return model


declaration = Declaration(
    name="scale",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("y", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="One integral over the scale.",
)
