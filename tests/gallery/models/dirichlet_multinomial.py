"""Overdispersed counts of four categories."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

NAMES = ["a", "b", "c", "d"]


def build(batch: pd.DataFrame) -> pm.Model:
    counts = batch[NAMES].to_numpy()
    with pm.Model(coords={"kind": NAMES}) as model:
        share = pm.Dirichlet("share", np.ones(4), dims="kind")
        concentration = pm.Gamma("concentration", 2, 0.1)
        pm.DirichletMultinomial("y", n=counts.sum(axis=1), a=share * concentration, observed=counts)
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        p = rng.dirichlet(15 * np.array([0.4, 0.3, 0.2, 0.1]), size=30)
        counts = np.array([rng.multinomial(25, row) for row in p])
        yield f"b{b}", pd.DataFrame(counts, columns=NAMES).assign(id=np.arange(30) + 30 * b)


declaration = Declaration(
    name="dirichlet-multinomial",
    build=build,
    schema=pa.schema(
        [("id", pa.int64()), ("a", pa.int64()), ("b", pa.int64()), ("c", pa.int64()), ("d", pa.int64())]
    ),
    row_key=("id",),
    observed=("a", "b", "c", "d"),
    split=split,
)
