"""Weekly influenza admissions: a level of each location, and one curve of time for the logarithm."""

import numpy as np
import pyarrow as pa
import pymc as pm

from benchmarks.vintages.season import LOCATIONS, curve
from lindley import Declaration, Snapshot

COLUMNS = {"date": pa.date32(), "location": pa.string(), "value": pa.float64()}


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
