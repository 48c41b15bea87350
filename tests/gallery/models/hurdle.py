"""Counts with a hurdle at zero."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        psi = pm.Beta("psi", 2, 2)
        mu = pm.Gamma("mu", 2, 0.5)
        pm.HurdlePoisson("n", psi=psi, mu=mu, observed=batch["n"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        n = np.where(rng.random(60) < 0.6, 1 + rng.poisson(2.5, 60), 0)
        yield f"b{b}", pd.DataFrame({"id": np.arange(60) + 60 * b, "n": n})


declaration = Declaration(
    name="hurdle",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("n", pa.int64())]),
    row_key=("id",),
    observed=("n",),
    split=split,
)
