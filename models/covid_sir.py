"""COVID-19 in the United States week by week: SIR with a contact rate that drifts.

Source: COVID-19 Data Repository by the Center for Systems Science and Engineering (CSSE) at Johns
Hopkins University, Dong, Du & Gardner (2020), Lancet Infectious Diseases 20:533. A batch is one week of
new confirmed cases; the next week starts from the contact rate, the infectious and the ever infected at its
end, jointly with all parameters.

Counts identify growth and level. So the model fixes the rest or gives it narrow priors: one infection in
four is ever confirmed (CDC's estimate for February 2020 to September 2021), and an infection lasts about a
week. Delays from infection to confirmation are left out: the contact rate is that of confirmations. Weekend
dips count as noise. One ascertainment for all weeks makes the share of ever infected, and the model with it,
doubtful after the winter of 2020/21.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor
import pytensor.tensor as pt

from lindley import Declaration
from lindley.errors import BatchUnreadable

COUNTRY = "US"
POPULATION = 329_466_283
ASCERTAINMENT = 0.25
FIRST_CONFIRMED = 100
DAYS = 7
STEPS_PER_DAY = 2


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model of one week; rows may be missing from it."""
    with pm.Model() as model:
        day = pm.Data("day", batch["day"].to_numpy())
        confirmed = pm.Data("confirmed", batch["cases"].to_numpy())

        phi_inv = pm.Exponential("phi_inv", lam=10)
        volatility = pm.LogNormal("volatility", mu=np.log(0.2), sigma=0.5)
        gamma = pm.LogNormal("gamma", mu=np.log(1 / 7), sigma=0.1)
        log_beta = pm.Normal("log_beta", mu=np.log(0.4), sigma=0.5)
        infectious0 = pm.LogNormal("infectious0", mu=np.log(400), sigma=1)
        infected0 = pm.LogNormal("infected0", mu=np.log(800), sigma=1)
        # Change of the log contact rate in this week: new in each week, so it is not carried.
        drift = pm.Normal("drift", mu=0, sigma=volatility)

        susceptible, infectious = sir(log_beta, drift, gamma, POPULATION - infected0, infectious0)
        pm.Deterministic("log_beta_end", log_beta + drift)
        pm.Deterministic("infectious_end", infectious[-1])
        pm.Deterministic("infected_end", POPULATION - susceptible[-1])
        pm.Deterministic("R", pt.exp(log_beta + drift) * susceptible[-1] / POPULATION / gamma)
        new_cases = ASCERTAINMENT * (susceptible[day - 1] - susceptible[day])
        pm.NegativeBinomial("cases", mu=new_cases, alpha=1 / phi_inv, observed=confirmed)
    return model


def sir(
    log_beta: pt.TensorVariable,
    drift: pt.TensorVariable,
    gamma: pt.TensorVariable,
    s0: pt.TensorVariable,
    i0: pt.TensorVariable,
) -> tuple[pt.TensorVariable, pt.TensorVariable]:
    """Integrate d log s/dt = -beta i/N, d log i/dt = beta s/N - gamma by Runge-Kutta steps.

    The log contact rate moves from `log_beta` by `drift` in the course of the week.

    Returns
    -------
    tuple
        Susceptible and infectious people at the ends of days 0 to 7, both (day,).
    """
    h = 1 / STEPS_PER_DAY
    middle_of_step = (np.arange(DAYS * STEPS_PER_DAY) + 0.5) / (DAYS * STEPS_PER_DAY)
    beta = pt.exp(log_beta + drift * middle_of_step)

    def slope(log_s, log_i, beta, gamma):  # type: ignore[no-untyped-def]
        return -beta * pt.exp(log_i) / POPULATION, beta * pt.exp(log_s) / POPULATION - gamma

    def step(beta, log_s, log_i, gamma):  # type: ignore[no-untyped-def]
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
        sequences=[beta],
        outputs_info=[pt.log(s0), pt.log(i0)],
        non_sequences=[gamma],
        return_updates=False,
    )
    ends = slice(STEPS_PER_DAY - 1, None, STEPS_PER_DAY)
    return (
        pt.concatenate([s0[None], pt.exp(log_s[ends])]),
        pt.concatenate([i0[None], pt.exp(log_i[ends])]),
    )


def split(source: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut cumulated confirmed counts into whole weeks of new cases, from the first day with 100.

    Parameters
    ----------
    source
        Path or http(s) address of a CSV file, also compressed: Johns Hopkins' own
        ``time_series_covid19_confirmed_global.csv`` (a row per place, a column per day), or one
        country's file with the columns date and confirmed.

    Notes
    -----
    A cumulated count that falls corrects earlier days by an amount that cannot be assigned to them: that
    day's new cases are unknown and its row is left out. Earlier batches stay as they were.

    Raises
    ------
    BatchUnreadable
        If the source has neither layout, or no row of the country.
    """
    confirmed = read_confirmed(source)
    cases = confirmed.diff()
    start = int((confirmed >= FIRST_CONFIRMED).to_numpy().argmax())
    for number, first in enumerate(range(start, len(cases) - DAYS + 1, DAYS), start=1):
        week = cases.iloc[first : first + DAYS]
        rows = pd.DataFrame({"date": week.index, "day": range(1, DAYS + 1), "cases": week.to_numpy()})
        rows = rows[rows["cases"] >= 0].astype({"cases": "int64"}).reset_index(drop=True)
        if len(rows):
            yield f"covid_sir-{number:03d}", rows


def read_confirmed(source: str) -> pd.Series:
    """Return the country's cumulated confirmed counts by date; see `split` for the layouts."""
    table = pd.read_csv(source)
    if {"date", "confirmed"} <= set(table.columns):
        counts = table.set_index("date")["confirmed"]
    elif {"Province/State", "Country/Region", "Lat", "Long"} <= set(table.columns):
        places = table[table["Country/Region"] == COUNTRY]
        mainland = places[places["Province/State"].isna()]
        counts = (places if mainland.empty else mainland).drop(columns=table.columns[:4]).sum()
    else:
        counts = pd.Series()
    if counts.empty or counts.max() < FIRST_CONFIRMED:
        raise BatchUnreadable(
            "The source of confirmed counts cannot be used",
            expected=f"Johns Hopkins' layout with a row of {COUNTRY}, or the columns date and confirmed",
            found=f"columns {', '.join(map(str, table.columns[:6]))}",
            todo="give time_series_covid19_confirmed_global.csv or a single country's file",
        )
    wide = "/" in str(counts.index[0])
    counts.index = pd.to_datetime(counts.index, format="%m/%d/%y" if wide else "%Y-%m-%d")
    return counts.sort_index()


declaration = Declaration(
    name="covid_sir",
    build=build,
    schema=pa.schema(
        [
            pa.field("date", pa.date32(), nullable=False),
            pa.field("day", pa.int64(), nullable=False),
            pa.field("cases", pa.int64(), nullable=False),
        ]
    ),
    row_key=("date",),
    observed=("cases",),
    carried=("phi_inv", "volatility", "gamma", "log_beta", "infectious0", "infected0"),
    carry={"log_beta": "log_beta_end", "infectious0": "infectious_end", "infected0": "infected_end"},
    split=split,
    description="SIR on US confirmed cases, a week a batch; a drifting contact rate and carried state.",
)
