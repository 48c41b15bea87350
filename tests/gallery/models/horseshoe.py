"""A regression with eight predictors under a regularised horseshoe."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

NAMES = [f"x{i}" for i in range(8)]


def build(batch: pd.DataFrame) -> pm.Model:
    with pm.Model(coords={"predictor": NAMES}) as model:
        tau = pm.HalfStudentT("tau", nu=2, sigma=0.3)
        width = pm.HalfStudentT("width", nu=2, dims="predictor")
        slab = pm.InverseGamma("slab", 2, 4)
        z = pm.Normal("z", 0, 1, dims="predictor")
        shrunk = width * pm.math.sqrt(slab / (slab + tau**2 * width**2))
        beta = pm.Deterministic("beta", z * tau * shrunk, dims="predictor")
        sigma = pm.HalfNormal("sigma", 1)
        pm.Normal("y", batch[NAMES].to_numpy() @ beta, sigma, observed=batch["y"].to_numpy())
    return model


def split(seed: str):
    rng = np.random.default_rng(int(seed))
    for b in range(3):
        x = rng.normal(size=(60, 8))
        y = x[:, 0] * 1.5 - x[:, 3] + rng.normal(0, 0.8, 60)
        yield f"b{b}", pd.DataFrame(x, columns=NAMES).assign(id=np.arange(60) + 60 * b, y=y)


declaration = Declaration(
    name="horseshoe",
    build=build,
    schema=pa.schema(
        [
            ("id", pa.int64()),
            ("x0", pa.float64()),
            ("x1", pa.float64()),
            ("x2", pa.float64()),
            ("x3", pa.float64()),
            ("x4", pa.float64()),
            ("x5", pa.float64()),
            ("x6", pa.float64()),
            ("x7", pa.float64()),
            ("y", pa.float64()),
        ]
    ),
    row_key=("id",),
    observed=("y",),
    split=split,
)
