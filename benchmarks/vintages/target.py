"""The rivals' model, as its users would write it; imports nothing of Lindley."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm
from pymc.distributions import transforms

from benchmarks.speed.targets import Target, Values
from benchmarks.vintages.season import LOCATIONS, curve


def _priors() -> Values:
    return {
        "level": pm.Normal("level", 3, 3, shape=len(LOCATIONS)),
        "season": pm.Normal("season", 0, 2, shape=4),
        "sigma": pm.HalfNormal("sigma", 2),
    }


def _data(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    rows = frame[frame["value"] != "NA"]
    places = {name: place for place, name in enumerate(LOCATIONS)}
    return {
        "place": rows["location"].map(places).to_numpy("int64"),
        "curve": curve(pd.to_datetime(rows["date"]).to_numpy("datetime64[D]")),
        "observed": np.log1p(rows["value"].astype(float).to_numpy()),
    }


def _likelihood(variables: Values, data: Values) -> None:
    mu = variables["level"][data["place"]] + data["curve"] @ variables["season"]
    pm.Normal("y", mu, variables["sigma"], observed=data["observed"])


TARGET = Target(
    chain="admissions",
    models=Path(__file__).with_name("models"),
    shapes={"level": (len(LOCATIONS),), "season": (4,), "sigma": ()},
    transforms={"level": None, "season": None, "sigma": transforms.log},
    priors=_priors,
    data=_data,
    likelihood=_likelihood,
)
