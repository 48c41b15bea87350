"""Weight of mesquite bushes by their measures (posteriordb, mesquite).

Sampled in 100 grams around a typical bush: a fixed linear map, under which the flat priors stay flat.
`group` is not centred: the first batch holds a single bush of the second group.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt

from lindley import Declaration

TYPICAL = {
    "diam1": 2.0,
    "diam2": 1.5,
    "canopy_height": 1.0,
    "total_height": 1.5,
    "density": 1.0,
    "group": 0.0,
}
GRAMS = 100


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: weight ~ Normal(beta[1] + beta[2..7] . measures, sigma), all priors flat."""
    typical = np.array(list(TYPICAL.values()))
    coords = {"coefficient": ("1", "2", "3", "4", "5", "6", "7"), "measure": tuple(TYPICAL)}
    with pm.Model(coords=coords) as model:
        measures = pm.Data("measures", batch[list(TYPICAL)].to_numpy() - typical)
        observed = pm.Data("observed", batch["weight"].to_numpy())

        level = pm.Flat("level")
        slopes = pm.Flat("slopes", dims="measure")
        noise = pm.HalfFlat("noise")
        sigma = pm.Deterministic("sigma", GRAMS * noise)
        intercept = level - pt.sum(slopes * typical)
        coefficients = GRAMS * pt.concatenate([intercept[None], slopes])
        pm.Deterministic("beta", coefficients, dims="coefficient")
        pm.Normal("weight", GRAMS * (level + measures @ slopes), sigma, observed=observed)
    return model


declaration = Declaration(
    name="mesquite_mesquite",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("weight", pa.float64(), nullable=False),
            pa.field("diam1", pa.float64(), nullable=False),
            pa.field("diam2", pa.float64(), nullable=False),
            pa.field("canopy_height", pa.float64(), nullable=False),
            pa.field("total_height", pa.float64(), nullable=False),
            pa.field("density", pa.int64(), nullable=False),
            pa.field("group", pa.int64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("weight",),
    description="46 bushes, 8 parameters, flat priors; the first 26 rows are all of one group.",
)
