"""An A/B test to which variants are added: new labels under a common prior."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    index, variants = pd.factorize(batch["variant"], sort=True)
    with pm.Model(coords={"variant": variants}) as model:
        mean = pm.Beta("mean", 2, 20)
        kappa = pm.Gamma("kappa", 3, 0.03)
        theta = pm.Beta("theta", mean * kappa, (1 - mean) * kappa, dims="variant")
        pm.Binomial("y", n=batch["visits"].to_numpy(), p=theta[index], observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b, variants in enumerate(("AB", "ABC", "ABCD")):
        rows = [
            {"id": 100 * b + 10 * d + ord(v), "variant": v, "visits": 80} for d in range(10) for v in variants
        ]
        frame = pd.DataFrame(rows).assign(id=lambda f, b=b: np.arange(len(f)) + 1000 * b)
        rate = frame["variant"].map({"A": 0.08, "B": 0.1, "C": 0.12, "D": 0.06}).to_numpy()
        yield f"b{b}", frame.assign(y=rng.binomial(80, rate))


declaration = Declaration(
    name="new-variants",
    build=build,
    schema=pa.schema(
        [("id", pa.int64()), ("variant", pa.string()), ("visits", pa.int64()), ("y", pa.int64())]
    ),
    row_key=("id",),
    observed=("y",),
    split=split,
)
