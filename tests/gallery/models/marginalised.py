"""A two-component outcome whose discrete component pymc-extras sums out."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm
import pymc_extras as pmx

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 5)
        gap = pm.HalfNormal("gap", 5)
        share = pm.Beta("share", 2, 2)
        z = pm.Bernoulli("z", share, shape=(len(batch),))
        pm.Normal("y", mu + gap * z, 1, observed=batch["y"].to_numpy())
    return pmx.marginalize(model, ["z"])


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        y = np.where(rng.random(50) < 0.3, 4.0, -1.0) + rng.normal(size=50)
        yield f"b{b}", pd.DataFrame({"id": np.arange(50) + 50 * b, "y": y})


declaration = Declaration(
    name="marginalised",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("y", pa.float64())]),
    row_key=("id",),
    observed=("y",),
    split=split,
)
