"""Mean of a normal population of known spread: the posterior is known in closed form.

With the conjugate prior mu ~ Normal(0, 10) and sigma = 2 known, the precisions add up: after n
observations 1/var = 1/10^2 + n/2^2. The whole pipeline can be checked against this exact result. The chain
also shows a pandera schema with a check.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pymc as pm

from lindley import Declaration

SIGMA = 2.0
ROWS_PER_BATCH = 10


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(mu, 2)."""
    with pm.Model() as model:
        observed = pm.Data("observed", batch["y"].to_numpy())
        mu = pm.Normal("mu", mu=0, sigma=10)
        pm.Normal("y", mu=mu, sigma=SIGMA, observed=observed)
    return model


def split(source: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut a CSV or Parquet file with the columns id and y into batches of 10 rows, by id."""
    read = pd.read_parquet if Path(source).suffix == ".parquet" else pd.read_csv
    rows = read(source).sort_values("id", ignore_index=True)
    for number, start in enumerate(range(0, len(rows), ROWS_PER_BATCH), start=1):
        yield f"normal_mean-{number:03d}", rows.iloc[start : start + ROWS_PER_BATCH]


declaration = Declaration(
    name="normal_mean",
    build=build,
    schema=pa.DataFrameSchema(
        {
            "id": pa.Column("int64"),
            "y": pa.Column("float64", pa.Check(np.isfinite, error="y must be finite")),
        },
        strict=True,
    ),
    row_key=("id",),
    observed=("y",),
    split=split,
    description="Mean of a normal population, sigma = 2, mu ~ Normal(0, 10): conjugate, so exactly known.",
)
