"""Weekly influenza admissions: a level of each location, and one curve of time for the logarithm."""

import numpy as np
import pyarrow as pa
import pymc as pm

from lindley import Declaration, Snapshot

COLUMNS = {"date": pa.date32(), "location": pa.string(), "value": pa.float64()}
#: FIPS codes of 50 states, the District of Columbia and Puerto Rico; then the country.
LOCATIONS = [f"{code:02d}" for code in (*range(1, 57), 72) if code not in (3, 7, 14, 43, 52)] + ["US"]
START, WEEKS = np.datetime64("2024-10-05"), 34


def curve(days):
    """Return a Fourier basis of the season, an array [row, coefficient]."""
    phase = 2 * np.pi * (days - START).astype("timedelta64[D]").astype(float) / 7 / WEEKS
    return np.column_stack([np.cos(phase), np.sin(phase), np.cos(2 * phase), np.sin(2 * phase)])


def build(batch):
    rows = batch[batch["value"].notna()]
    places = rows["location"].map({name: place for place, name in enumerate(LOCATIONS)}).to_numpy("int64")
    with pm.Model(coords={"location": LOCATIONS}) as model:
        level = pm.Normal("level", 3, 3, dims="location")
        season = pm.Normal("season", 0, 2, shape=4)
        sigma = pm.HalfNormal("sigma", 2)
        mu = level[places] + pm.math.dot(curve(rows["date"].to_numpy("datetime64[D]")), season)
        pm.Normal("y", mu, sigma, observed=np.log1p(rows["value"].to_numpy()))
    return model


declaration = Declaration(
    name="admissions",
    build=build,
    schema=pa.schema([pa.field(name, kind, nullable=name == "value") for name, kind in COLUMNS.items()]),
    row_key=("date", "location"),
    observed=("value",),
    missing=("NA",),
    source=Snapshot("target.csv"),
    description="Weekly influenza admissions of 53 locations, as they were published and revised.",
)
