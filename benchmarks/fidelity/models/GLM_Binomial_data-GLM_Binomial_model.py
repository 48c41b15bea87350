"""Binomial regression on a quadratic trend (posteriordb, GLM_Binomial_model).

The polynomial is written around the first years, as level, slope and curvature there: the first batch
determines the first two and leaves the third to its prior, so the three hardly correlate. The Stan
coefficients follow by a linear map of determinant 1, which keeps the vague priors as they are.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

FIRST_YEARS = -0.875


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: C ~ Binomial(N, logit^-1(alpha + beta1 year + beta2 year^2))."""
    with pm.Model() as model:
        since = pm.Data("since", batch["year"].to_numpy() - FIRST_YEARS)
        trials = pm.Data("trials", batch["N"].to_numpy())
        successes = pm.Data("successes", batch["C"].to_numpy())

        # alpha, beta1 and beta2 ~ Normal(0, 100), one after the other.
        beta2 = pm.Normal("beta2", 0, 100)
        slope = pm.Normal("slope", 2 * FIRST_YEARS * beta2, 100)
        beta1 = pm.Deterministic("beta1", slope - 2 * FIRST_YEARS * beta2)
        rise = FIRST_YEARS * beta1 + FIRST_YEARS**2 * beta2
        level = pm.Normal("level", rise, 100)
        pm.Deterministic("alpha", level - rise)

        logit = level + slope * since + beta2 * since**2
        pm.Binomial("C", n=trials, logit_p=logit, observed=successes)
    return model


declaration = Declaration(
    name="glm_binomial_data_glm_binomial_model",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("year", pa.float64(), nullable=False),
            pa.field("C", pa.int64(), nullable=False),
            pa.field("N", pa.int64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("C",),
    description="Binomial regression on a quadratic trend with vague priors, in order of time.",
)
