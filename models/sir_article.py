"""An SIR outbreak seen as the noisy infected fraction of a closed population.

The model of a widely read article on sequential updating, with its priors: contact rate `lambda`
and recovery rate `mu` per day, Normal noise on the infected fraction. Every batch is an outbreak of
its own that starts from a known infected fraction `i0` with all others susceptible, so only the parameters
are carried forward, no state.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor
import pytensor.tensor as pt

from lindley import Declaration, Policy
from lindley.errors import BatchRefused

STEPS_PER_DAY = 2


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: infected_fraction ~ Normal(i(day), sigma), i from the SIR equations."""
    if batch["i0"].nunique() != 1:
        raise BatchRefused(
            "The batch mixes outbreaks",
            expected="one value of i0, the infected fraction that the outbreak starts from",
            found=f"{batch['i0'].nunique()} values",
            todo="drop one file per outbreak",
        )
    with pm.Model() as model:
        day = pm.Data("day", batch["day"].to_numpy())
        i0 = pm.Data("i0", batch["i0"].iloc[0])
        observed = pm.Data("observed", batch["infected_fraction"].to_numpy())

        contact = pm.LogNormal("lambda", mu=1.5, sigma=2)
        recovery = pm.LogNormal("mu", mu=1.5, sigma=2)
        sigma = pm.HalfCauchy("sigma", beta=2)
        pm.Deterministic("R0", contact / recovery)

        infected = sir(contact, recovery, i0, n_steps=day[-1] * STEPS_PER_DAY)
        pm.Normal("infected_fraction", mu=infected[day * STEPS_PER_DAY - 1], sigma=sigma, observed=observed)
    return model


def sir(
    contact: pt.TensorVariable, recovery: pt.TensorVariable, i0: pt.TensorVariable, n_steps: pt.TensorVariable
) -> pt.TensorVariable:
    """Integrate d log s/dt = -contact i, d log i/dt = contact s - recovery by Runge-Kutta steps.

    On the log scale no step, however long, can make a fraction negative.

    Returns
    -------
    pt.TensorVariable
        The infected fraction after each step (step,).
    """
    h = 1 / STEPS_PER_DAY

    def slope(log_s, log_i, contact, recovery):  # type: ignore[no-untyped-def]
        return -contact * pt.exp(log_i), contact * pt.exp(log_s) - recovery

    def step(log_s, log_i, contact, recovery):  # type: ignore[no-untyped-def]
        s1, i1 = slope(log_s, log_i, contact, recovery)
        s2, i2 = slope(log_s + h / 2 * s1, log_i + h / 2 * i1, contact, recovery)
        s3, i3 = slope(log_s + h / 2 * s2, log_i + h / 2 * i2, contact, recovery)
        s4, i4 = slope(log_s + h * s3, log_i + h * i3, contact, recovery)
        return (
            log_s + h / 6 * (s1 + 2 * s2 + 2 * s3 + s4),
            log_i + h / 6 * (i1 + 2 * i2 + 2 * i3 + i4),
        )

    _, log_i = pytensor.scan(
        step,
        outputs_info=[pt.log1p(-i0), pt.log(i0)],
        non_sequences=[contact, recovery],
        n_steps=n_steps,
        return_updates=False,
    )
    return pt.exp(log_i)


def split(source: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut a Parquet file with the columns batch, day, i0 and infected_fraction into its batches."""
    for number, rows in pd.read_parquet(source).groupby("batch", sort=True):
        yield f"sir_article-{number:03d}", rows.reset_index(drop=True)


declaration = Declaration(
    name="sir_article",
    build=build,
    schema=pa.schema(
        [
            pa.field("batch", pa.int64(), nullable=False),
            pa.field("day", pa.int64(), nullable=False),
            pa.field("i0", pa.float64(), nullable=False),
            pa.field("infected_fraction", pa.float64(), nullable=False),
        ]
    ),
    row_key=("batch", "day"),
    observed=("infected_fraction",),
    split=split,
    # As in the article, the posterior of one outbreak is the prior of the next: no outbreak is fitted again.
    policy=Policy(refit_rows=1),
    description="SIR with Normal noise on the infected fraction; each batch starts from its own known i0.",
)
