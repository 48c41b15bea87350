"""Poisson regression on a cubic trend with box-uniform priors (posteriordb, GLM_Poisson_model).

The first batch, four years at one end, determines level and slope there and leaves the rest to the
box. So level and slope at these years take the place of alpha and beta3, a linear map with constant
determinant given beta1 and beta2. The walls of all four coefficients then bound beta2: the prior stays
uniform on the whole box, and no wall cuts the posterior where the sampler does not expect it.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt

from lindley import Declaration

FIRST_YEARS = -1.54
ALPHA_WALL = 20
BETA_WALL = 10


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: C ~ Poisson(exp(alpha + beta1 year + beta2 year^2 + beta3 year^3))."""
    with pm.Model() as model:
        since = pm.Data("since", batch["year"].to_numpy() - FIRST_YEARS)
        counts = pm.Data("counts", batch["C"].to_numpy())

        level = pm.Flat("level")
        slope = pm.Flat("slope")
        beta1 = pm.Uniform("beta1", -BETA_WALL, BETA_WALL)
        # alpha and beta3 as lines in beta2.
        alpha_at_0 = level - FIRST_YEARS * (slope + 2 * beta1) / 3
        alpha_fall = FIRST_YEARS**2 / 3
        beta3_at_0 = (slope - beta1) / (3 * FIRST_YEARS**2)
        beta3_rise = -2 / (3 * FIRST_YEARS)
        lower = pt.maximum((alpha_at_0 - ALPHA_WALL) / alpha_fall, (-BETA_WALL - beta3_at_0) / beta3_rise)
        upper = pt.minimum((alpha_at_0 + ALPHA_WALL) / alpha_fall, (BETA_WALL - beta3_at_0) / beta3_rise)
        lower, upper = pt.maximum(lower, -BETA_WALL), pt.minimum(upper, BETA_WALL)
        beta2 = pm.Uniform("beta2", lower, upper)
        # The density is constant in the box, whatever the width of beta2's interval.
        pm.Potential("box", pt.log(upper - lower))
        pm.Deterministic("alpha", alpha_at_0 - alpha_fall * beta2)
        beta3 = pm.Deterministic("beta3", beta3_at_0 + beta3_rise * beta2)

        curvature = beta2 + 3 * FIRST_YEARS * beta3
        log_mean = level + slope * since + curvature * since**2 + beta3 * since**3
        pm.Poisson("C", pt.exp(log_mean), observed=counts)
    return model


declaration = Declaration(
    name="glm_poisson_data_glm_poisson_model",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("year", pa.float64(), nullable=False),
            pa.field("C", pa.int64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("C",),
    potentials={"box": "prior"},
    description="Poisson regression on a cubic trend with box-uniform priors, in order of time.",
)
