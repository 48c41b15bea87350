"""Levels of fifty groups with a common distribution, from a few rows of every group in each batch.

The centred form works because the first batch informs every group; later posteriors are close to normal.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

GROUPS = 50


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(level(group), sigma), level ~ Normal(mean, spread)."""
    with pm.Model(coords={"group": range(GROUPS)}) as model:
        group = pm.Data("group_index", batch["group"].to_numpy())
        observed = pm.Data("observed", batch["y"].to_numpy())
        mean = pm.Normal("mean", mu=0, sigma=5)
        spread = pm.HalfNormal("spread", sigma=2)
        sigma = pm.HalfNormal("sigma", sigma=2)
        level = pm.Normal("level", mu=mean, sigma=spread, dims="group")
        pm.Normal("y", mu=level[group], sigma=sigma, observed=observed)
    return model


declaration = Declaration(
    name="groups",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("group", pa.int64(), nullable=False),
            pa.field("y", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="Fifty groups with a common mean and spread.",
)
