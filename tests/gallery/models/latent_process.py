"""A latent Gaussian process at fixed points, observed with Poisson noise."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

GRID = np.linspace(0, 10, 8)


def build(batch: pd.DataFrame) -> pm.Model:
    at = np.searchsorted(GRID, batch["t"].to_numpy())
    with pm.Model() as model:
        scale = pm.HalfNormal("scale", 1)
        gp = pm.gp.Latent(cov_func=scale**2 * pm.gp.cov.Matern52(1, ls=3.0))
        f = gp.prior("f", X=GRID[:, None])
        pm.Poisson("y", pm.math.exp(1 + f[at]), observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        t = GRID[rng.integers(8, size=40)]
        y = rng.poisson(np.exp(1 + np.sin(t / 2)))
        yield f"b{b}", pd.DataFrame({"id": np.arange(40) + 40 * b, "t": t, "y": y})


declaration = Declaration(
    name="latent-process",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("t", pa.float64()), ("y", pa.int64())]),
    row_key=("id",),
    observed=("y",),
    split=split,
)
