"""Length of dugongs by age: a growth curve that levels off (posteriordb, dugongs_model).

The first batches hold only young animals, which carry no information about the asymptote: in alpha and
beta the posterior is a ridge that the priors cut at +-1000. The free variables are instead the lengths at
two young ages. The Stan priors of alpha and beta, with the Jacobian of that change, are a potential.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt

from lindley import Declaration

YOUNGER, OLDER = 1.5, 5.0


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: Y ~ Normal(alpha - beta lambda^x, 1 / sqrt(tau))."""
    with pm.Model(coords={"age": ("1.5", "5")}) as model:
        age = pm.Data("age_seen", batch["x"].to_numpy())
        observed = pm.Data("observed", batch["Y"].to_numpy())

        rate = pm.Uniform("lambda", 0.5, 1)
        length = pm.Flat("length", dims="age")
        tau = pm.Gamma("tau", alpha=1e-4, beta=1e-4)
        # The share of the growth still ahead at the younger age that is over at the older one.
        share = -pt.expm1((OLDER - YOUNGER) * pt.log(rate))
        ahead = (length[1] - length[0]) / share
        alpha = pm.Deterministic("alpha", length[0] + ahead)
        beta = pm.Deterministic("beta", ahead / rate**YOUNGER)
        log_priors = pm.logp(pm.Normal.dist(0, 1000), alpha) + pm.logp(pm.Normal.dist(0, 1000), beta)
        # d(length) / d(alpha, beta) has the determinant lambda^YOUNGER - lambda^OLDER.
        pm.Potential("curve", log_priors - YOUNGER * pt.log(rate) - pt.log(share))

        mean = length[0] - ahead * pt.expm1((age - YOUNGER) * pt.log(rate))
        pm.Normal("Y", mean, tau=tau, observed=observed)
    return model


declaration = Declaration(
    name="dugongs_data_dugongs_model",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("x", pa.float64(), nullable=False),
            pa.field("Y", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("Y",),
    potentials={"curve": "prior"},
    description="A growth curve that levels off, youngest animals first.",
)
