"""COVID-19 in several countries month by month: SIR with hyperpriors on contact and recovery rates.

The hierarchical model of a widely read series of articles on sequential updating. Source: COVID-19 Data
Repository by the Center for Systems Science and Engineering (CSSE) at Johns Hopkins University, Dong,
Du & Gardner (2020), Lancet Infectious Diseases 20:533. A batch is a month of weekly confirmed cases.
A new country takes its prior from the hierarchy; a country that stops reporting keeps its belief.

Counts identify growth and level; growth is roughly contact rate minus recovery rate. So the prior of the
recovery rate is narrow, and one infection in four is taken as confirmed (CDC's estimate for February 2020 to
September 2021), in all countries and months. `lambda`, and `R0` with it, is a country's typical contact rate
under the measures it took, not that of an unmitigated epidemic.
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
from lindley.errors import BatchRefused, BatchUnreadable

#: Population by Johns Hopkins, and the first and last month that `split` cuts. The months are chosen for the
#: example, so that a country joins late and another stops; the counts are real.
COUNTRIES = {
    "Brazil": (212_559_409, "2020-03", "2021-01"),
    "India": (1_380_004_385, "2020-03", "2020-10"),
    "South Africa": (59_308_690, "2020-07", "2021-01"),
    "US": (329_466_283, "2020-03", "2021-01"),
}
ASCERTAINMENT = 0.25
FIRST_CONFIRMED = 100
WEEKS = 5
STEPS_PER_WEEK = 4
HYPERPARAMETERS = ("log_lambda_mean", "log_lambda_sd", "log_mu_mean", "log_mu_sd", "volatility", "phi_inv")
type Tensor = pt.TensorVariable


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model of one month; countries and rows may be missing from it."""
    countries, known = known_before(batch)
    with pm.Model(coords={"country": countries}) as model:
        place = pm.Data("place", np.searchsorted(countries, batch["country"]))
        week = pm.Data("week", batch["week"].to_numpy())
        confirmed = pm.Data("confirmed", batch["cases"].to_numpy())
        data = {name: pm.Data(name, values) for name, values in known.items()}
        log_lambda, log_mu, volatility, phi_inv = hierarchy()
        expected = epidemic(data, log_lambda, log_mu, volatility, dims="country")
        pm.NegativeBinomial("cases", mu=expected[week - 1, place], alpha=1 / phi_inv, observed=confirmed)
    return model


def known_before(batch: pd.DataFrame) -> tuple[list[str], dict[str, np.ndarray]]:
    """Return the month's countries, sorted, and the data that earlier counts determine.

    Population and new infections a day, as a fraction, in the week before (country,); susceptible fraction
    at the start of each week (week, country).
    """
    countries = sorted(set(batch["country"]))
    recent = batch[["country", "recent"]].drop_duplicates().sort_values("country")["recent"].to_numpy()
    if not set(countries) <= set(COUNTRIES) or len(recent) > len(countries):
        raise BatchRefused(
            "The batch is not one month of the countries that the model knows",
            expected=f"some of {', '.join(COUNTRIES)}, and one value of recent for each",
            found=f"{len(recent)} values of recent for {', '.join(countries)}",
            todo="drop one file per month, as `lindley split` cuts them",
        )
    population = np.array([COUNTRIES[country][0] for country in countries], dtype=float)
    before = batch.pivot(index="week", columns="country", values="before").reindex(range(1, WEEKS + 1))
    susceptible = 1 - before.ffill().bfill().to_numpy() / ASCERTAINMENT / population
    daily = recent / 7 / ASCERTAINMENT / population
    return countries, {"population": population, "recent_daily": daily, "susceptible": susceptible}


def hierarchy() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Add all that is carried to the open model; return log lambda, log mu, volatility, overdispersion.

    Countries are offsets in units of the spread between them. Their logs would form a funnel with the spread,
    which no joint normal can represent; offsets are close to normal for any number of countries and months.
    """
    lambda_mean = pm.Normal("log_lambda_mean", mu=np.log(0.2), sigma=0.4)
    lambda_sd = pm.LogNormal("log_lambda_sd", mu=np.log(0.2), sigma=0.5)
    # Infectious for about a week, nearly the same in all countries: counts contain little information on it.
    mu_mean = pm.Normal("log_mu_mean", mu=np.log(1 / 7), sigma=0.1)
    mu_sd = pm.LogNormal("log_mu_sd", mu=np.log(0.1), sigma=0.5)
    # Contacts move by about a third from month to month; weekly counts scatter by about a fifth.
    volatility = pm.LogNormal("volatility", mu=np.log(0.3), sigma=0.5)
    phi_inv = pm.LogNormal("phi_inv", mu=np.log(0.05), sigma=0.7)
    log_lambda = lambda_mean + lambda_sd * pm.Normal("lambda_offset", dims="country")
    log_mu = mu_mean + mu_sd * pm.Normal("mu_offset", dims="country")
    for name, log in {"lambda": log_lambda, "mu": log_mu, "R0": log_lambda - log_mu}.items():
        pm.Deterministic(name, pt.exp(log), dims="country")
    return log_lambda, log_mu, volatility, phi_inv


def epidemic(
    known: dict[str, Tensor], log_lambda: Tensor, log_mu: Tensor, volatility: Tensor, dims: str
) -> Tensor:
    """Add what is local to a month; return the expected confirmed cases (week, `dims`)."""
    # Counts identify reproduction number and incidence for nearly any recovery rate: easy to sample.
    log_r = pm.Normal("log_R", mu=log_lambda - log_mu, sigma=volatility, dims=dims)
    incidence0 = pm.LogNormal("incidence0", mu=pt.log(known["recent_daily"]), sigma=0.7, dims=dims)
    mu = pt.exp(log_mu)
    end, _ = sir(pt.exp(log_r) * mu, mu, known["susceptible"], incidence0 / mu)
    return ASCERTAINMENT * known["population"] * (known["susceptible"] - end)


def sir(contact: Tensor, mu: Tensor, s0: Tensor, i0: Tensor) -> tuple[Tensor, Tensor]:
    """Integrate d log s/dt = -contact i, d log i/dt = contact s - mu by Runge-Kutta steps.

    Each week starts from the susceptible fraction `s0` (week, country) after earlier counts. If only the
    first week did, an epidemic that burns out within the month would be a separate mode for each country.
    Returns susceptible and infectious fractions at the ends of weeks, both (week, country).
    """
    h = 7 / STEPS_PER_WEEK

    def slope(log_s, log_i, contact, mu):  # type: ignore[no-untyped-def]
        return -contact * pt.exp(log_i), contact * pt.exp(log_s) - mu

    def week(log_s, log_i, contact, mu):  # type: ignore[no-untyped-def]
        for _ in range(STEPS_PER_WEEK):
            s1, i1 = slope(log_s, log_i, contact, mu)
            s2, i2 = slope(log_s + h / 2 * s1, log_i + h / 2 * i1, contact, mu)
            s3, i3 = slope(log_s + h / 2 * s2, log_i + h / 2 * i2, contact, mu)
            s4, i4 = slope(log_s + h * s3, log_i + h * i3, contact, mu)
            log_s = log_s + h / 6 * (s1 + 2 * s2 + 2 * s3 + s4)
            log_i = log_i + h / 6 * (i1 + 2 * i2 + 2 * i3 + i4)
        return log_s, log_i

    starts, rates = [None, pt.log(i0)], [contact, mu]
    log_s, log_i = pytensor.scan(week, [pt.log(s0)], starts, rates, return_updates=False)
    return pt.exp(log_s), pt.exp(log_i)


def split(source: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut Johns Hopkins' ``time_series_covid19_confirmed_global.csv``, a path or address, into months.

    Weeks end on Sundays and belong to the month of their Sunday. A country begins in the first week that
    starts with 100 confirmed. A month is left for later until the source has all of its weeks. `week`
    counts a country's weeks in the month; `before` is confirmed before the week, `recent` new in the
    last week with any before the month. A week whose cumulated count falls corrects earlier weeks by an
    amount that cannot be assigned to them, and is left out.
    """
    sundays = read_confirmed(source).asfreq("W-SUN")
    cases, before = sundays.diff(), sundays.shift()
    recent = cases.where(cases > 0).ffill().shift()
    begun = (before >= FIRST_CONFIRMED) & recent.notna()
    for month in pd.period_range("2020-03", "2021-01", freq="M"):
        weeks = pd.date_range(month.start_time, month.end_time, freq="W-SUN")
        if sundays.empty or weeks[-1] > sundays.index[-1]:
            return
        parts = []
        for country, (_, first, last) in COUNTRIES.items():
            days = weeks[weeks.isin(begun.index[begun[country]]) & (first <= str(month) <= last)]
            part = pd.DataFrame({"date": days, "country": country, "week": range(1, len(days) + 1)})
            part[["cases", "before"]] = np.c_[cases.loc[days, country], before.loc[days, country]]
            part["recent"] = recent.loc[days[:1], country].max()
            parts.append(part[part["cases"] >= 0])
        if len(rows := pd.concat(parts, ignore_index=True)):
            whole = dict.fromkeys(["cases", "before", "recent"], "int64")
            yield f"covid_hierarchical-{month}", rows.astype(whole)


def read_confirmed(source: str) -> pd.DataFrame:
    """Return cumulated confirmed counts by date and country: its mainland row, or else all its rows."""
    table, head = pd.read_csv(source), ["Province/State", "Country/Region", "Lat", "Long"]
    places = table[:0] if set(head) - set(table) else table[table["Country/Region"].isin(COUNTRIES)]
    if not len(places) or places["Country/Region"].nunique() < len(COUNTRIES):
        raise BatchUnreadable(
            "The source of confirmed counts cannot be used",
            expected=f"Johns Hopkins' layout with rows of {', '.join(COUNTRIES)}",
            found=f"{len(places)} such rows and the columns {', '.join(map(str, table.columns[:6]))}",
            todo="give time_series_covid19_confirmed_global.csv",
        )
    part = places["Province/State"].notna()
    counts = places[~part | part.groupby(places["Country/Region"]).transform("all")]
    counts = counts.groupby("Country/Region").sum(numeric_only=True).drop(columns=["Lat", "Long"]).T
    counts.index = pd.to_datetime(counts.index, format="%m/%d/%y")
    return counts.sort_index()


declaration = Declaration(
    name="covid_hierarchical",
    build=build,
    schema=pa.schema(
        [pa.field("date", pa.date32(), nullable=False), pa.field("country", pa.string(), nullable=False)]
        + [pa.field(name, pa.int64(), nullable=False) for name in ("week", "cases", "before", "recent")]
    ),
    row_key=("date", "country"),
    observed=("cases",),
    carried=(*HYPERPARAMETERS, "lambda_offset", "mu_offset"),
    split=split,
    description="SIR on weekly confirmed cases by country, a month a batch; hyperpriors on its two rates.",
)
