"""Influenza in an English boarding school, January 1978: 763 boys, 14 daily counts of boys in bed.

The data are British Medical Journal 1978;1:587, the model is Grinsztajn, Semenova, Margossian & Riou
(2021), Statistics in Medicine 40:6209: SIR equations from one infected boy on the day before the first
count, boys in bed ~ negative binomial around the infectious.

Every batch continues where the one before ended: the next link starts from the susceptible and infectious
boys at the end of this one, jointly with the parameters. There may be no gap between batches; a day may be
missing inside a batch.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.distributions.transforms import Transform

from lindley import Declaration
from lindley.model.policy import Policy

BOYS = 763
DAYS_PER_BATCH = 2
STEPS_PER_DAY = 8


class Scores(Transform):
    """Unconstrained coordinates that are normal scores of the genesis prior: beliefs stay close to normal.

    Two days of counts contain little information about the recovery rate or the dispersion: their posterior
    has the shape of the prior, which is a standard normal in these coordinates and has a long left tail on
    the log scale. The transform changes how well a belief can be matched, not the model.
    """

    def __init__(self, name: str, prior: pt.TensorVariable) -> None:
        self.name = name
        self.prior = prior

    def forward(self, value: pt.TensorVariable, *inputs: pt.TensorVariable) -> pt.TensorVariable:
        """Return the normal score of a value."""
        return pm.icdf(pm.Normal.dist(), pt.exp(pm.logcdf(self.prior, value)))

    def backward(self, value: pt.TensorVariable, *inputs: pt.TensorVariable) -> pt.TensorVariable:
        """Return the value at a normal score."""
        return pm.icdf(self.prior, pt.exp(pm.logcdf(pm.Normal.dist(), value)))

    def log_jac_det(self, value: pt.TensorVariable, *inputs: pt.TensorVariable) -> pt.TensorVariable:
        """Return the log derivative of `backward`."""
        return pm.logp(pm.Normal.dist(), value) - pm.logp(self.prior, self.backward(value))


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model of the days in one batch."""
    days = (batch["date"] - batch["date"].min()).dt.days.to_numpy() + 1
    with pm.Model() as model:
        day = pm.Data("day", days)
        in_bed = pm.Data("in_bed", batch["cases"].to_numpy())

        # First, because the widths of the others depend on it.
        phi_inv = positive("phi_inv", pm.Exponential, lam=5)
        beta = positive("beta", pm.TruncatedNormal, mu=2, sigma=1, lower=0)
        gamma = positive("gamma", pm.TruncatedNormal, mu=0.4, sigma=0.5, lower=0)
        # One infected boy on the day before the first count, all others susceptible: known, up to widths that
        # the sampler needs.
        s0 = pm.TruncatedNormal("s0", mu=BOYS - 1, sigma=0.05, lower=0, upper=BOYS)
        i0 = pm.LogNormal("i0", mu=0, sigma=0.05)

        s, i = sir(beta, gamma, s0, i0, n_steps=day[-1] * STEPS_PER_DAY)
        pm.Deterministic("s_end", s[-1])
        pm.Deterministic("i_end", i[-1])
        pm.Deterministic("R0", beta / gamma)
        pm.Deterministic("phi", 1 / phi_inv)
        pm.NegativeBinomial("cases", mu=i[day * STEPS_PER_DAY - 1], alpha=1 / phi_inv, observed=in_bed)
    return model


def positive(name: str, distribution: type[pm.Distribution], **parameters: float) -> pt.TensorVariable:
    """Add a free variable whose coordinates are its prior's normal scores."""
    text = ", ".join(f"{key}={value}" for key, value in parameters.items())
    scores = Scores(f"scores({distribution.__name__}({text}))", distribution.dist(**parameters))
    return distribution(name, **parameters, default_transform=scores)


def sir(
    beta: pt.TensorVariable,
    gamma: pt.TensorVariable,
    s0: pt.TensorVariable,
    i0: pt.TensorVariable,
    n_steps: pt.TensorVariable,
) -> tuple[pt.TensorVariable, pt.TensorVariable]:
    """Integrate d log s/dt = -beta i/N, d log i/dt = beta s/N - gamma by Runge-Kutta steps.

    On the log scale no step, however long, can make a number of boys negative.

    Returns
    -------
    tuple
        Susceptible and infectious boys after each step, both (step,).
    """
    h = 1 / STEPS_PER_DAY

    def slope(log_s, log_i, beta, gamma):  # type: ignore[no-untyped-def]
        return -beta * pt.exp(log_i) / BOYS, beta * pt.exp(log_s) / BOYS - gamma

    def step(log_s, log_i, beta, gamma):  # type: ignore[no-untyped-def]
        s1, i1 = slope(log_s, log_i, beta, gamma)
        s2, i2 = slope(log_s + h / 2 * s1, log_i + h / 2 * i1, beta, gamma)
        s3, i3 = slope(log_s + h / 2 * s2, log_i + h / 2 * i2, beta, gamma)
        s4, i4 = slope(log_s + h * s3, log_i + h * i3, beta, gamma)
        return (
            log_s + h / 6 * (s1 + 2 * s2 + 2 * s3 + s4),
            log_i + h / 6 * (i1 + 2 * i2 + 2 * i3 + i4),
        )

    log_s, log_i = pytensor.scan(
        step,
        outputs_info=[pt.log(s0), pt.log(i0)],
        non_sequences=[beta, gamma],
        n_steps=n_steps,
        return_updates=False,
    )
    return pt.exp(log_s), pt.exp(log_i)


def split(source: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut a CSV file with the columns date and cases into batches of two days, by date."""
    counts = pd.read_csv(source, parse_dates=["date"]).sort_values("date", ignore_index=True)
    for number, start in enumerate(range(0, len(counts), DAYS_PER_BATCH), start=1):
        rows = counts.iloc[start : start + DAYS_PER_BATCH].reset_index(drop=True)
        yield f"boarding_school_flu-{number:02d}", rows


declaration = Declaration(
    name="boarding_school_flu",
    build=build,
    schema=pa.schema(
        [
            pa.field("date", pa.date32(), nullable=False),
            pa.field("cases", pa.int64(), nullable=False),
        ]
    ),
    row_key=("date",),
    observed=("cases",),
    carry={"s0": "s_end", "i0": "i_end"},
    split=split,
    # Fitting earlier batches again takes minutes with an ODE and state: each link starts from the head.
    policy=Policy(replay=0),
    description="SIR outbreak in a school of 763 boys (1978), two days a batch, with carried state.",
)
