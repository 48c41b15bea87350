"""Directions around a mean near pi."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.VonMises("mu", mu=0, kappa=0.1)
        kappa = pm.HalfNormal("kappa", 5)
        pm.VonMises("y", mu=mu, kappa=kappa, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        y = rng.vonmises(3.1, 2.0, 40)
        yield f"b{b}", pd.DataFrame({"id": np.arange(40) + 40 * b, "y": y})


declaration = Declaration(
    name="von-mises",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("y", pa.float64())]),
    row_key=("id",),
    observed=("y",),
    split=split,
)
