"""A mixture of two normals in one dimension, identified by their order (posteriordb, low_dim_gauss_mix)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ theta Normal(mu[1], sigma[1]) + (1 - theta) Normal(mu[2], sigma[2])."""
    with pm.Model(coords={"component": ("1", "2")}) as model:
        observed = pm.Data("observed", batch["y"].to_numpy())
        # The start must be ordered; the priors' own means are equal.
        mu = pm.Normal(
            "mu",
            0,
            2,
            dims="component",
            transform=pm.distributions.transforms.ordered,
            initval=np.array([-1.0, 1.0]),
        )
        sigma = pm.HalfNormal("sigma", 2, dims="component")
        theta = pm.Beta("theta", 5, 5)
        weights = pm.math.stack([theta, 1 - theta])
        pm.NormalMixture("y", w=weights, mu=mu, sigma=sigma, observed=observed)
    return model


declaration = Declaration(
    name="low_dim_gauss_mix_low_dim_gauss_mix",
    build=build,
    schema=pa.schema(
        [pa.field("row", pa.int64(), nullable=False), pa.field("y", pa.float64(), nullable=False)]
    ),
    row_key=("row",),
    observed=("y",),
    description="Two normal components with ordered means, the membership summed out.",
)
