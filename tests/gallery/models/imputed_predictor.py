"""Missing values of a predictor, with a model of the predictor."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mean, spread = pm.Normal("mean", 0, 2), pm.HalfNormal("spread", 2)
        x = pm.Normal("x", mean, spread, observed=batch["x"].to_numpy())
        a, b = pm.Normal("a", 0, 2), pm.Normal("b", 0, 2)
        sigma = pm.HalfNormal("sigma", 1)
        pm.Normal("y", a + b * x, sigma, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        x = rng.normal(0.5, 1, 40)
        y = 1 + 0.8 * x + rng.normal(0, 0.5, 40)
        x[rng.random(40) < 0.15] = np.nan
        yield f"b{b}", pd.DataFrame({"id": np.arange(40) + 40 * b, "x": x, "y": y})


declaration = Declaration(
    name="imputed-predictor",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("x", pa.float64()), ("y", pa.float64())]),
    row_key=("id",),
    observed=("y",),
    split=split,
)
