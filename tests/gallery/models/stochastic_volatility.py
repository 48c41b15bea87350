"""Stochastic volatility, non-centred; the last log volatility is handed to the next batch."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        tau = pm.HalfNormal("tau", 0.3)
        start = pm.Normal("start", -1, 1)
        steps = pm.Normal("steps", 0, 1, shape=len(batch))
        h = start + tau * pm.math.cumsum(steps)
        pm.Deterministic("end", h[-1])
        pm.StudentT("y", nu=8, mu=0, sigma=pm.math.exp(h), observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    h = -1 + np.cumsum(rng.normal(0, 0.15, 120))
    y = np.exp(h) * rng.standard_t(8, 120)
    for b in range(3):
        t = np.arange(40 * b, 40 * b + 40)
        yield f"b{b}", pd.DataFrame({"t": t, "y": y[t]})


declaration = Declaration(
    name="stochastic-volatility",
    build=build,
    schema=pa.schema([("t", pa.int64()), ("y", pa.float64())]),
    row_key=("t",),
    observed=("y",),
    split=split,
    order_by=("t",),
    carry={"start": "end"},
)
