"""Poisson regressions by key: the panel of the benchmark (`benchmarks.panel.members` as a declaration)."""

import numpy as np
import pyarrow as pa
import pymc as pm

from lindley import Declaration, Policy

TERMS = ("one", "x1", "x2", "x3")
FIELDS = {"key": pa.int64(), "id": pa.int64(), **dict.fromkeys(TERMS[1:], pa.float64()), "y": pa.int64()}


def build(batch):
    with pm.Model(coords={"term": list(TERMS)}) as model:
        b = pm.Normal("b", np.array([0.5, 0.3, -0.2, 0.1]), 0.3, dims="term")
        x = np.column_stack([np.ones(len(batch)), batch[list(TERMS[1:])].to_numpy()])
        pm.Poisson("y", pm.math.exp(x @ b), observed=batch["y"].to_numpy())
    return model


declaration = Declaration(
    name="members",
    build=build,
    schema=pa.schema([pa.field(name, kind, nullable=False) for name, kind in FIELDS.items()]),
    by=("key",),
    row_key=("id",),
    observed=("y",),
    policy=Policy(refit_rows=1, rebase_at_drift=None),
)
