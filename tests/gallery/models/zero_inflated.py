"""Zero-inflated negative binomial counts."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        psi = pm.Beta("psi", 4, 2)
        mu = pm.Gamma("mu", 2, 0.4)
        alpha = pm.Gamma("alpha", 3, 1)
        pm.ZeroInflatedNegativeBinomial("n", psi=psi, mu=mu, alpha=alpha, observed=batch["n"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        n = np.where(rng.random(80) < 0.7, rng.negative_binomial(3, 3 / (3 + 5.0), 80), 0)
        yield f"b{b}", pd.DataFrame({"id": np.arange(80) + 80 * b, "n": n})


declaration = Declaration(
    name="zero-inflated",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("n", pa.int64())]),
    row_key=("id",),
    observed=("n",),
    split=split,
)
