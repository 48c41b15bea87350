"""Media spend with geometric adstock over four weeks and saturation; the weeks before are context."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

LAGS = 4


def build(batch: pd.DataFrame, context: pd.DataFrame) -> pm.Model:
    spend = np.concatenate([np.zeros(LAGS), context["spend"].to_numpy(), batch["spend"].to_numpy()])
    rows = np.arange(len(spend) - len(batch), len(spend))
    lagged = np.stack([spend[rows - lag] for lag in range(LAGS)])
    with pm.Model() as model:
        decay = pm.Beta("decay", 2, 2)
        half = pm.Gamma("half", 3, 1)
        gain = pm.HalfNormal("gain", 5)
        base = pm.Normal("base", 0, 5)
        sigma = pm.HalfNormal("sigma", 1)
        stock = sum(decay**lag * lagged[lag] for lag in range(LAGS))
        pm.Normal("y", base + gain * stock / (stock + half), sigma, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    spend = rng.gamma(1.0, 2.0, 120)
    padded = np.concatenate([np.zeros(LAGS), spend])
    stock = sum(0.5**lag * padded[LAGS - lag : len(padded) - lag] for lag in range(LAGS))
    y = 2 + 4 * stock / (stock + 3) + rng.normal(0, 0.3, 120)
    for b in range(3):
        t = np.arange(40 * b, 40 * b + 40)
        yield f"b{b}", pd.DataFrame({"t": t, "spend": spend[t], "y": y[t]})


declaration = Declaration(
    name="adstock",
    build=build,
    schema=pa.schema([("t", pa.int64()), ("spend", pa.float64()), ("y", pa.float64())]),
    row_key=("t",),
    observed=("y",),
    split=split,
    order_by=("t",),
    context=LAGS,
)
