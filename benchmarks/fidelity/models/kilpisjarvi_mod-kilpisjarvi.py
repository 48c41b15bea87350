"""Summer temperature of Kilpisjarvi by year (posteriordb, kilpisjarvi).

The years are 3952 to 4013 and not centred, so intercept and slope correlate at -0.99999. Sampled as the
level in the middle year and the rise in 30 years; the Stan priors carry over exactly.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

MIDDLE = 3982
YEARS = 30
ALPHA_MEAN, ALPHA_SD = 9.31290322580645, 100
BETA_SD = 0.0333333333333333


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(alpha + beta x, sigma), sigma flat."""
    with pm.Model() as model:
        since = pm.Data("since", (batch["x"].to_numpy() - MIDDLE) / YEARS)
        observed = pm.Data("observed", batch["y"].to_numpy())

        rise = pm.Normal("rise", 0, BETA_SD * YEARS)
        beta = pm.Deterministic("beta", rise / YEARS)
        # alpha ~ Normal(ALPHA_MEAN, ALPHA_SD), moved from year 0 to the middle one.
        level = pm.Normal("level", ALPHA_MEAN + beta * MIDDLE, ALPHA_SD)
        pm.Deterministic("alpha", level - beta * MIDDLE)
        sigma = pm.HalfFlat("sigma")
        pm.Normal("y", level + rise * since, sigma, observed=observed)
    return model


declaration = Declaration(
    name="kilpisjarvi_mod_kilpisjarvi",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("x", pa.float64(), nullable=False),
            pa.field("y", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="A linear trend on years that are not centred, in order of time.",
)
