"""Dogs that learn to avoid a shock: logistic regression on their own earlier counts (posteriordb, dogs)."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Bernoulli(logit^-1(beta[1] + beta[2] avoidances + beta[3] shocks))."""
    with pm.Model(coords={"coefficient": ("1", "2", "3")}) as model:
        avoidances = pm.Data("avoidances", batch["t_n_avoid"].to_numpy())
        shocks = pm.Data("shocks", batch["t_n_shock"].to_numpy())
        shocked = pm.Data("shocked", batch["y"].to_numpy())
        beta = pm.Normal("beta", 0, 100, dims="coefficient")
        logit = beta[0] + beta[1] * avoidances + beta[2] * shocks
        pm.Bernoulli("y", logit_p=logit, observed=shocked)
    return model


declaration = Declaration(
    name="dogs_dogs",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("y", pa.int64(), nullable=False),
            pa.field("t_n_avoid", pa.float64(), nullable=False),
            pa.field("t_n_shock", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="Learning of 30 dogs in 25 trials each, a logistic regression on earlier outcomes.",
)
