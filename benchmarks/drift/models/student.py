"""Location and scale of a Student t with four degrees of freedom."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ StudentT(4, mu, sigma)."""
    with pm.Model() as model:
        seen = pm.Data("seen", batch["y"].to_numpy())
        mu = pm.Normal("mu", 0, 10)
        sigma = pm.HalfNormal("sigma", 5)
        pm.StudentT("y", nu=4, mu=mu, sigma=sigma, observed=seen)
    return model


declaration = Declaration(
    name="student",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("y", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    description="Two integrals.",
)
