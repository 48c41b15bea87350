"""A random walk whose last level is handed to the next batch (non-centred)."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        sigma = pm.HalfNormal("sigma", 1)
        tau = pm.HalfNormal("tau", 0.5)
        start = pm.Normal("start", 0, 10)
        steps = pm.Normal("steps", 0, 1, shape=len(batch))
        level = start + tau * pm.math.cumsum(steps)
        pm.Deterministic("end", level[-1])
        pm.Normal("y", level, sigma, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    level = 3 + np.cumsum(rng.normal(0, 0.3, 75))
    y = level + rng.normal(0, 0.6, 75)
    for b in range(3):
        t = np.arange(25 * b, 25 * b + 25)
        yield f"b{b}", pd.DataFrame({"t": t, "y": y[t]})


declaration = Declaration(
    name="local-level",
    build=build,
    schema=pa.schema([("t", pa.int64()), ("y", pa.float64())]),
    row_key=("t",),
    observed=("y",),
    order_by=("t",),
    carry={"start": "end"},
    split=split,
)
