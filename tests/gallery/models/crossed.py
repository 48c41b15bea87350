"""Crossed effects of stores and products on counts."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

STORES, PRODUCTS = ["s1", "s2", "s3", "s4"], ["p1", "p2", "p3", "p4", "p5"]


def build(batch: pd.DataFrame) -> pm.Model:
    store, product = (
        pd.Categorical(batch["store"], STORES).codes,
        pd.Categorical(batch["product"], PRODUCTS).codes,
    )
    with pm.Model(coords={"store": STORES, "product": PRODUCTS}) as model:
        base = pm.Normal("base", 1, 1)
        spread = pm.HalfNormal("spread", 0.5, shape=2)
        by_store = pm.ZeroSumNormal("by_store", dims="store")
        by_product = pm.ZeroSumNormal("by_product", dims="product")
        rate = pm.math.exp(base + spread[0] * by_store[store] + spread[1] * by_product[product])
        pm.Poisson("y", rate, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    one, two = rng.normal(0, 0.4, 4), rng.normal(0, 0.6, 5)
    for b in range(3):
        store, product = rng.integers(4, size=80), rng.integers(5, size=80)
        y = rng.poisson(np.exp(1 + one[store] + two[product]))
        rows = {"store": [STORES[i] for i in store], "product": [PRODUCTS[i] for i in product], "y": y}
        yield f"b{b}", pd.DataFrame(rows).assign(id=np.arange(80) + 80 * b)


declaration = Declaration(
    name="crossed",
    build=build,
    schema=pa.schema(
        [("id", pa.int64()), ("store", pa.string()), ("product", pa.string()), ("y", pa.int64())]
    ),
    row_key=("id",),
    observed=("y",),
    split=split,
)
