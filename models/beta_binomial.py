"""Successes of repeated trials with a Beta prior: the posterior is known in closed form.

The prior is conjugate, so the whole pipeline can be checked against an exact result: after any number of
batches, in any order, theta ~ Beta(2 + successes, 3 + failures).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

ROWS_PER_BATCH = 10


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: k successes of n trials in every row, one success probability theta."""
    with pm.Model() as model:
        trials = pm.Data("trials", batch["n"].to_numpy())
        successes = pm.Data("successes", batch["k"].to_numpy())
        theta = pm.Beta("theta", alpha=2, beta=3)
        pm.Binomial("k", n=trials, p=theta, observed=successes)
    return model


def split(source: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut a CSV or Parquet file with the columns id, k and n into batches of 10 rows, by id."""
    read = pd.read_parquet if Path(source).suffix == ".parquet" else pd.read_csv
    rows = read(source).sort_values("id", ignore_index=True)
    for number, start in enumerate(range(0, len(rows), ROWS_PER_BATCH), start=1):
        yield f"beta_binomial-{number:03d}", rows.iloc[start : start + ROWS_PER_BATCH]


declaration = Declaration(
    name="beta_binomial",
    build=build,
    schema=pa.schema(
        [
            pa.field("id", pa.int64(), nullable=False),
            pa.field("k", pa.int64(), nullable=False),
            pa.field("n", pa.int64(), nullable=False),
        ]
    ),
    row_key=("id",),
    observed=("k",),
    split=split,
    description="Success probability of repeated trials, theta ~ Beta(2, 3): conjugate, so exactly known.",
)
