"""Children's test scores by their mothers' IQ and schooling (posteriordb, kidscore_interaction).

Sampled as one line per group of mothers, around an IQ of 100 and per 10 points: a fixed linear map of
the flat coefficients, whose correlations of up to 0.99 it removes.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

IQ = 100
POINTS = 10


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: score ~ Normal(beta[1] + beta[2] hs + beta[3] iq + beta[4] hs iq, sigma)."""
    with pm.Model(coords={"coefficient": ("1", "2", "3", "4"), "school": ("none", "finished")}) as model:
        school = pm.Data("school_seen", batch["mom_hs"].to_numpy())
        iq = pm.Data("iq", (batch["mom_iq"].to_numpy() - IQ) / POINTS)
        observed = pm.Data("observed", batch["kid_score"].to_numpy().astype("float64"))

        level = pm.Flat("level", dims="school")
        slope = pm.Flat("slope", dims="school")
        sigma = pm.HalfCauchy("sigma", 2.5)
        # Intercept and slope of either group in the units of the data.
        steep = slope / POINTS
        base = level - IQ * steep
        coefficients = [base[0], base[1] - base[0], steep[0], steep[1] - steep[0]]
        pm.Deterministic("beta", pm.math.stack(coefficients), dims="coefficient")
        pm.Normal("kid_score", level[school] + slope[school] * iq, sigma, observed=observed)
    return model


declaration = Declaration(
    name="kidiq_kidscore_interaction",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("kid_score", pa.int64(), nullable=False),
            pa.field("mom_hs", pa.int64(), nullable=False),
            pa.field("mom_iq", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("kid_score",),
    description="Regression with an uncentred interaction and flat coefficients.",
)
