"""Party identification in the US election study of 2000 (posteriordb, nes).

The predictors that have no natural zero are centred at fixed values, under which the flat priors stay
flat; only the intercept changes its meaning.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt

from lindley import Declaration

CENTRES = {
    "real_ideo": 4.0,
    "race_adj": 1.0,
    "t_age30_44": 0.0,
    "t_age45_64": 0.0,
    "t_age65up": 0.0,
    "educ1": 2.5,
    "gender": 1.5,
    "income": 3.0,
}


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: partyid7 ~ Normal(beta[1] + beta[2..9] . predictors, sigma), all priors flat."""
    coords = {"coefficient": tuple("123456789"), "predictor": tuple(CENTRES)}
    with pm.Model(coords=coords) as model:
        centres = np.array(list(CENTRES.values()))
        predictors = pm.Data("predictors", batch[list(CENTRES)].to_numpy() - centres)
        observed = pm.Data("observed", batch["partyid7"].to_numpy().astype("float64"))

        level = pm.Flat("level")
        slopes = pm.Flat("slopes", dims="predictor")
        sigma = pm.HalfFlat("sigma")
        # One by one: eight constants in an array would look like data of the batch.
        intercept = level - sum(centre * slopes[i] for i, centre in enumerate(CENTRES.values()))
        pm.Deterministic("beta", pt.concatenate([intercept[None], slopes]), dims="coefficient")
        pm.Normal("partyid7", level + predictors @ slopes, sigma, observed=observed)
    return model


declaration = Declaration(
    name="nes2000_nes",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("partyid7", pa.int64(), nullable=False),
            pa.field("real_ideo", pa.int64(), nullable=False),
            pa.field("race_adj", pa.float64(), nullable=False),
            pa.field("t_age30_44", pa.float64(), nullable=False),
            pa.field("t_age45_64", pa.float64(), nullable=False),
            pa.field("t_age65up", pa.float64(), nullable=False),
            pa.field("educ1", pa.int64(), nullable=False),
            pa.field("gender", pa.int64(), nullable=False),
            pa.field("income", pa.int64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("partyid7",),
    description="Regression on ordinal predictors with ten parameters and flat priors.",
)
