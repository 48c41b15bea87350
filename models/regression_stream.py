"""Linear regression on a stream of batches with strongly correlated predictors.

The three predictors correlate at 0.95, so each batch contains little information about a single coefficient
and much about their sum. A chain of marginals only would lose that: after ten batches it would be two
standard deviations off and state half the uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pymc as pm

from lindley import Declaration

PREDICTORS = ("x1", "x2", "x3")


def build(batch: pd.DataFrame) -> pm.Model:
    """Return the model: y ~ Normal(X b, sigma), no intercept, b labelled by predictor."""
    with pm.Model(coords={"predictor": PREDICTORS}) as model:
        x = pm.Data("x", batch[list(PREDICTORS)].to_numpy())
        observed = pm.Data("observed", batch["y"].to_numpy())
        b = pm.Normal("b", mu=0, sigma=10, dims="predictor")
        sigma = pm.HalfNormal("sigma", sigma=5)
        pm.Normal("y", mu=x @ b, sigma=sigma, observed=observed)
    return model


def split(source: str) -> Iterator[tuple[str, pd.DataFrame]]:
    """Cut a Parquet file with the columns batch, x1, x2, x3 and y into its batches, in order.

    The stream has no key of its own: the position in the file becomes the column `row`.
    """
    stream = pd.read_parquet(source)
    stream.insert(0, "row", range(len(stream)))
    for number, rows in stream.groupby("batch", sort=True):
        yield f"regression_stream-{number:03d}", rows.drop(columns="batch").reset_index(drop=True)


declaration = Declaration(
    name="regression_stream",
    build=build,
    schema=pa.schema(
        [
            pa.field("row", pa.int64(), nullable=False),
            *(pa.field(name, pa.float64(), nullable=False) for name in PREDICTORS),
            pa.field("y", pa.float64(), nullable=False),
        ]
    ),
    row_key=("row",),
    observed=("y",),
    split=split,
    description="Regression on three predictors that correlate at 0.95; the posterior correlates likewise.",
)
