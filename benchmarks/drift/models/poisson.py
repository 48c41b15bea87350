"""Counts with a conjugate rate."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: n ~ Poisson(rate)."""
    with pm.Model() as model:
        seen = pm.Data("seen", batch["n"].to_numpy())
        rate = pm.Gamma("rate", 1, 2)
        pm.Poisson("n", rate, observed=seen)
    return model


declaration = Declaration(
    name="poisson",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("n", pa.int64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("n",),
    description="The rate is Gamma distributed.",
)
