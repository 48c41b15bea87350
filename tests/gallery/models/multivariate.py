"""A multivariate normal outcome with an LKJ prior of its covariance."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        mu = pm.Normal("mu", 0, 3, shape=2)
        chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=pm.HalfNormal.dist(2.0))
        pm.MvNormal("y", mu=mu, chol=chol, observed=batch[["y1", "y2"]].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        y = rng.multivariate_normal([1, -1], [[1.0, 0.6], [0.6, 2.0]], size=50)
        yield f"b{b}", pd.DataFrame({"id": np.arange(50) + 50 * b, "y1": y[:, 0], "y2": y[:, 1]})


declaration = Declaration(
    name="multivariate",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("y1", pa.float64()), ("y2", pa.float64())]),
    row_key=("id",),
    observed=("y1", "y2"),
    split=split,
)
