"""Successes of trials with a conjugate probability."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: k of trials successes in every row."""
    with pm.Model() as model:
        tried = pm.Data("tried", batch["trials"].to_numpy())
        seen = pm.Data("seen", batch["k"].to_numpy())
        theta = pm.Beta("theta", 2, 3)
        pm.Binomial("k", tried, theta, observed=seen)
    return model


declaration = Declaration(
    name="binomial",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("k", pa.int64(), nullable=False),
            pa.field("trials", pa.int64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("k",),
    description="The probability is Beta distributed.",
)
