"""Households that switch to a safer well (posteriordb, wells_dae_inter_model): logistic regression."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

PREDICTORS = ("t_x1", "t_x2", "t_x3", "t_x4", "t_x5", "t_x6")


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: switched ~ Bernoulli(logit^-1(alpha + x . beta)), all priors flat."""
    with pm.Model(coords={"predictor": ("1", "2", "3", "4", "5", "6")}) as model:
        x = pm.Data("x", batch[list(PREDICTORS)].to_numpy())
        observed = pm.Data("observed", batch["switched"].to_numpy())
        alpha = pm.Flat("alpha")
        beta = pm.Flat("beta", dims="predictor")
        pm.Bernoulli("switched", logit_p=alpha + x @ beta, observed=observed)
    return model


declaration = Declaration(
    name="wells_data_wells_dae_inter_model",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("switched", pa.int64(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in PREDICTORS),
        ]
    ),
    row_key=("row",),
    observed=("switched",),
    description="Logistic regression with interactions, centred predictors and flat priors.",
)
