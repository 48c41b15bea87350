"""A local level by the Kalman filter of pymc-extras: its likelihood starts anew in each batch."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pytensor.tensor as pt
from pymc_extras.statespace import structural as st

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    level = st.LevelTrend(order=1, innovations_order=1)
    noise = st.MeasurementError()
    filtered = (level + noise).build(verbose=False)
    with pm.Model(coords=filtered.coords) as model:
        pm.Normal("initial_level_trend", 0, 5, dims=filtered.param_dims["initial_level_trend"])
        pm.Deterministic("P0", pt.eye(filtered.k_states) * 4, dims=filtered.param_dims["P0"])
        pm.HalfNormal("sigma_level_trend", 0.5, dims=filtered.param_dims["sigma_level_trend"])
        pm.HalfNormal("sigma_MeasurementError", 1)
        filtered.build_statespace_graph(batch[["y"]].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    y = 1 + np.cumsum(rng.normal(0, 0.2, 90)) + rng.normal(0, 0.5, 90)
    for b in range(3):
        t = np.arange(30 * b, 30 * b + 30)
        yield f"b{b}", pd.DataFrame({"t": t, "y": y[t]})


declaration = Declaration(
    name="state-space",
    build=build,
    schema=pa.schema([("t", pa.int64()), ("y", pa.float64())]),
    row_key=("t",),
    observed=("y",),
    split=split,
    order_by=("t",),
)
