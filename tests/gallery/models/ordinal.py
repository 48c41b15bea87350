"""Ordered categories by a logistic model with ordered cut points."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model() as model:
        ordered = pm.distributions.transforms.ordered
        cuts = pm.Normal("cuts", 0, 2, shape=3, transform=ordered, initval=np.array([-1.0, 0.0, 1.0]))
        b = pm.Normal("b", 0, 1)
        pm.OrderedLogistic("answer", eta=b * batch["x"].to_numpy(), cutpoints=cuts, observed=batch["answer"])
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        x = rng.normal(size=70)
        answer = np.searchsorted([-1.0, 0.3, 1.5], 0.8 * x + rng.logistic(size=70))
        yield f"b{b}", pd.DataFrame({"id": np.arange(70) + 70 * b, "x": x, "answer": answer})


declaration = Declaration(
    name="ordinal",
    build=build,
    schema=pa.schema([("id", pa.int64()), ("x", pa.float64()), ("answer", pa.int64())]),
    row_key=("id",),
    observed=("answer",),
    split=split,
)
