"""A smooth curve over time by an HSGP whose middle and boundary are fixed by two ends."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

ENDS = np.array([[0.0], [60.0]])


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        sigma = pm.HalfNormal("sigma", 1)
        scale = pm.HalfNormal("scale", 1)
        gp = pm.gp.HSGP(m=[12], L=[45.0], cov_func=scale**2 * pm.gp.cov.ExpQuad(1, ls=8.0))
        f = gp.prior("f", X=np.concatenate([batch[["t"]].to_numpy(), ENDS]))
        pm.Normal("y", f[:-2], sigma, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        t = np.arange(20.0 * b, 20.0 * b + 20.0, 0.5)
        yield f"b{b}", pd.DataFrame({"t": t, "y": np.sin(t / 7) + rng.normal(0, 0.3, len(t))})


declaration = Declaration(
    name="hsgp",
    build=build,
    schema=pa.schema([("t", pa.float64()), ("y", pa.float64())]),
    row_key=("t",),
    observed=("y",),
    split=split,
)
