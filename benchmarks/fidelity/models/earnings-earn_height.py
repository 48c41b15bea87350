"""Earnings by height, both improper flat (posteriordb, earn_height).

Sampled as earnings in 10,000 dollars around 67 inches: a fixed linear map, under which flat priors stay
flat, takes the coefficients from 1e5 and a correlation of 0.998 to order one.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

DOLLARS = 1e4
INCHES = 67


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: earn ~ Normal(beta[1] + beta[2] height, sigma), all priors flat."""
    with pm.Model(coords={"coefficient": ("1", "2")}) as model:
        height = pm.Data("above", batch["height"].to_numpy().astype("float64") - INCHES)
        observed = pm.Data("observed", batch["earn"].to_numpy().astype("float64"))

        level = pm.Flat("level")
        slope = pm.Flat("slope")
        noise = pm.HalfFlat("noise")
        sigma = pm.Deterministic("sigma", DOLLARS * noise)
        coefficients = DOLLARS * pm.math.stack([level - INCHES * slope, slope])
        pm.Deterministic("beta", coefficients, dims="coefficient")
        pm.Normal("earn", DOLLARS * (level + slope * height), sigma, observed=observed)
    return model


declaration = Declaration(
    name="earnings_earn_height",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("earn", pa.int64(), nullable=False),
            pa.field("height", pa.int64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("earn",),
    description="Earnings by height: skewed outcomes, flat priors, coefficients of very different size.",
)
