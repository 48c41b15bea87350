"""Correlated intercepts and slopes by site, with an LKJ prior, non-centred."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

SITES = [f"s{i}" for i in range(6)]


def build(batch: pd.DataFrame) -> pm.Model:
    site = pd.Categorical(batch["site"], SITES).codes
    with pm.Model(coords={"site": SITES, "effect": ["intercept", "slope"]}) as model:
        x = batch["x"].to_numpy()
        mean = pm.Normal("mean", 0, 5, dims="effect")
        chol, _, _ = pm.LKJCholeskyCov("chol", n=2, eta=2, sd_dist=pm.HalfNormal.dist(1.0))
        z = pm.Normal("z", 0, 1, dims=("site", "effect"))
        effect = mean + pm.math.dot(z, chol.T)
        sigma = pm.HalfNormal("sigma", 2)
        pm.Normal("y", effect[site, 0] + effect[site, 1] * x, sigma, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    effect = rng.multivariate_normal([2.0, 1.0], [[0.5, 0.2], [0.2, 0.3]], size=6)
    for b in range(3):
        site, x = rng.integers(6, size=60), rng.normal(size=60)
        y = effect[site, 0] + effect[site, 1] * x + rng.normal(0, 0.7, 60)
        rows = {"id": np.arange(60) + 60 * b, "site": [SITES[i] for i in site], "x": x, "y": y}
        yield f"b{b}", pd.DataFrame(rows)


declaration = Declaration(
    name="correlated-slopes",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("site", pa.string()), ("x", pa.float64()), ("y", pa.float64())]),
    row_key=("id",),
    observed=("y",),
    split=split,
)
