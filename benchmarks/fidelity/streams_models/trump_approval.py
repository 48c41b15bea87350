"""Approval of a president by day, from five polls: a normal regression."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

POLLS = ("gallup", "ipsos", "morning_consult", "rasmussen", "you_gov")
LEVEL = 40.0


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: five_thirty_eight ~ Normal(alpha + sum of beta (poll - 40), sigma)."""
    with pm.Model(coords={"poll": POLLS}) as model:
        polls = pm.Data("polls", batch[list(POLLS)].to_numpy() - LEVEL)
        observed = pm.Data("observed", batch["five_thirty_eight"].to_numpy())
        alpha = pm.Normal("alpha", 40, 10)
        beta = pm.Normal("beta", 0, 1, dims="poll")
        sigma = pm.HalfNormal("sigma", 5)
        pm.Normal("five_thirty_eight", alpha + polls @ beta, sigma, observed=observed)
    return model


declaration = Declaration(
    name="stream_trump_approval",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("five_thirty_eight", pa.float64(), nullable=False),
        ]
        + [pa.field(name, pa.float64(), nullable=False) for name in POLLS]
    ),
    row_key=("row",),
    observed=("five_thirty_eight",),
    description="Daily approval by month, with collinear polls whose weights change.",
)
