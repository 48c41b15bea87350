"""Deaths after surgery in twelve hospitals, one row each (posteriordb, surgical_model).

With near-improper priors the first two hospitals leave sigmasq open over many orders of magnitude. So
nothing is centred at the unknown mu: the well-known rate of hospital 2 anchors the scale, and scores in
units of sigma lead from it to the others; mu = b[2] - sigma score[2] ~ Normal(0, 1000) as in Stan.
Hospital 1, without a death, is bounded above at any sigma and below by sigma only: `first` is linear in
its rate where that is moderate, and logarithmic far out. Priors and Jacobians are a potential.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt

from lindley import Declaration

HOSPITALS = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12")
#: A low rate on the logit scale.
LOW = -3


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: r ~ Binomial(n, logit^-1(b[hospital])), b ~ Normal(mu, sqrt(sigmasq))."""
    with pm.Model(coords={"hospital": HOSPITALS, "scored": HOSPITALS[1:]}) as model:
        hospital = pm.Data("hospital_seen", batch["hospital"].to_numpy() - 1)
        operations = pm.Data("operations", batch["n"].to_numpy())
        deaths = pm.Data("deaths", batch["r"].to_numpy())

        # The prior of sigmasq is a potential, because most of its draws would overflow.
        log_sigmasq = pm.Flat("log_sigmasq")
        sigmasq = pm.Deterministic("sigmasq", pt.exp(log_sigmasq))
        sigma = pt.sqrt(sigmasq)
        score = pm.Normal("score", 0, 1, dims="scored")
        anchor = pm.Normal("anchor", sigma * score[0], 1000)
        mu = pm.Deterministic("mu", anchor - sigma * score[0])
        first = pm.Flat("first")
        b1 = LOW + pt.sinh(first)

        log_prior = pm.logp(pm.InverseGamma.dist(1e-3, 1e-3), sigmasq) + log_sigmasq
        log_prior = log_prior + pm.logp(pm.Normal.dist(mu, sigma), b1) + pt.log(pt.cosh(first))
        pm.Potential("hierarchy", log_prior)
        b = pm.Deterministic("b", pt.concatenate([b1[None], mu + sigma * score]), dims="hospital")
        pm.Binomial("r", n=operations, logit_p=b[hospital], observed=deaths)
    return model


declaration = Declaration(
    name="surgical_data_surgical_model",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            pa.field("hospital", pa.int64(), nullable=False),
            pa.field("n", pa.int64(), nullable=False),
            pa.field("r", pa.int64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("r",),
    potentials={"hierarchy": "prior"},
    description="Twelve hospitals, two a batch, with near-improper priors of the hierarchy.",
)
