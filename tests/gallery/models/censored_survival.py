"""Weibull survival with right censoring, as a censored distribution."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        shape = pm.Gamma("shape", 4, 2)
        base = pm.Normal("base", 1, 1)
        effect = pm.Normal("effect", 0, 1)
        scale = pm.math.exp(base + effect * batch["treated"].to_numpy())
        latent = pm.Weibull.dist(alpha=shape, beta=scale)
        upper = np.where(batch["event"], np.inf, batch["time"])
        pm.Censored("time", latent, lower=None, upper=upper, observed=batch["time"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        treated = rng.integers(2, size=50)
        time = np.exp(1 + 0.5 * treated) * rng.weibull(1.5, 50)
        seen = np.minimum(time, 5.0)
        rows = {"id": np.arange(50) + 50 * b, "treated": treated, "time": seen, "event": time < 5}
        yield f"b{b}", pd.DataFrame(rows)


declaration = Declaration(
    name="censored-survival",
    build=build,
    schema=pa.schema(
        [("id", pa.int64()), ("treated", pa.int64()), ("time", pa.float64()), ("event", pa.bool_())]
    ),
    row_key=("id",),
    observed=("time",),
    split=split,
)
