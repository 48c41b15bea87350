"""AR(2) whose first lags are the last rows of the batch before: context."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration


def build(batch: pd.DataFrame, context: pd.DataFrame) -> pm.Model:
    y = np.concatenate([context["y"].to_numpy(), batch["y"].to_numpy()])
    rows = np.arange(len(y) - len(batch), len(y))
    rows = rows[rows >= 2]  # the first two rows of all have no lags
    with pm.Model() as model:
        rho = pm.Normal("rho", 0, 0.5, shape=2)
        level = pm.Normal("level", 0, 2)
        sigma = pm.HalfNormal("sigma", 1)
        pm.Normal("y", level + rho[0] * y[rows - 1] + rho[1] * y[rows - 2], sigma, observed=y[rows])
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    y = [0.0, 0.0]
    for _ in range(148):
        y.append(0.3 + 0.5 * y[-1] - 0.2 * y[-2] + rng.normal(0, 0.5))
    for b in range(3):
        t = np.arange(50 * b, 50 * b + 50)
        yield f"b{b}", pd.DataFrame({"t": t, "y": np.array(y)[t]})


declaration = Declaration(
    name="autoregression",
    build=build,
    schema=pa.schema([("t", pa.int64()), ("y", pa.float64())]),
    row_key=("t",),
    observed=("y",),
    order_by=("t",),
    context=2,
    split=split,
)
