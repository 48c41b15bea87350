"""A marginal Gaussian process of all rows: rows of several batches do not add up."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        scale, length = pm.HalfNormal("scale", 1), pm.InverseGamma("length", 3, 6)
        sigma = pm.HalfNormal("sigma", 0.5)
        gp = pm.gp.Marginal(cov_func=scale**2 * pm.gp.cov.ExpQuad(1, ls=length))
        gp.marginal_likelihood("y", X=batch[["t"]].to_numpy(), y=batch["y"].to_numpy(), sigma=sigma)
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        t = np.sort(rng.uniform(0, 12, 25))
        yield f"b{b}", pd.DataFrame({"t": t, "y": np.sin(t) + rng.normal(0, 0.3, 25)})


declaration = Declaration(
    name="marginal-process",
    build=build,
    schema=pa.schema([("t", pa.float64()), ("y", pa.float64())]),
    row_key=("t",),
    observed=("y",),
    split=split,
)
