"""Eight schools, not centred (posteriordb, eight_schools_noncentered): one row per school."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

SCHOOLS = ("1", "2", "3", "4", "5", "6", "7", "8")


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(theta[school], sigma), theta ~ Normal(mu, tau)."""
    with pm.Model(coords={"school": SCHOOLS}) as model:
        school = pm.Data("school_seen", batch["school"].to_numpy() - 1)
        error = pm.Data("error", batch["sigma"].to_numpy())
        observed = pm.Data("observed", batch["y"].to_numpy())
        mu = pm.Normal("mu", 0, 5)
        tau = pm.HalfCauchy("tau", 5)
        score = pm.Normal("score", 0, 1, dims="school")
        theta = pm.Deterministic("theta", mu + tau * score, dims="school")
        pm.Normal("y", theta[school], error, observed=observed)
    return model


declaration = Declaration(
    name="eight_schools_eight_schools_noncentered",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("school", pa.int64(), nullable=False),
            pa.field("y", pa.float64(), nullable=False),
            pa.field("sigma", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="Eight schools, one after the other, with all eight effects carried.",
)
