"""Two normal components with ordered means."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        w = pm.Dirichlet("w", np.ones(2))
        ordered = pm.distributions.transforms.ordered
        mu = pm.Normal("mu", 0, 5, shape=2, transform=ordered, initval=np.array([-1.0, 1.0]))
        sigma = pm.HalfNormal("sigma", 2)
        pm.NormalMixture("y", w=w, mu=mu, sigma=sigma, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        y = np.where(rng.random(60) < 0.3, rng.normal(-2, 0.8, 60), rng.normal(2, 0.8, 60))
        yield f"b{b}", pd.DataFrame({"id": np.arange(60) + 60 * b, "y": y})


declaration = Declaration(
    name="mixture",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("y", pa.float64())]),
    row_key=("id",),
    observed=("y",),
    split=split,
)
