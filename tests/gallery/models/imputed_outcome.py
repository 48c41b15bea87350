"""Missing outcomes, which PyMC imputes."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 10)
        sigma = pm.HalfNormal("sigma", 2)
        pm.Normal("y", mu, sigma, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        y = rng.normal(1, 1.5, 30)
        y[:b] = np.nan
        yield f"b{b}", pd.DataFrame({"id": np.arange(30) + 30 * b, "y": y})


declaration = Declaration(
    name="imputed-outcome",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("y", pa.float64())]),
    row_key=("id",),
    observed=("y",),
    split=split,
)
