"""A small panel: successes of repeated trials by store, fitted for real."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from lindley.batch.batch import Batch, batch_from_frame
from lindley.ledger.protocol import Ledger
from lindley.ledger.registration import Registered, register_link
from lindley.model.declaration import Declaration, load_file
from lindley.operations.log import log_plan
from lindley.operations.panel.fit import PanelOutcome, fit_panel
from lindley.operations.plan import Plan
from lindley.operations.update import plan_update

NAME = "shops"
MODEL = '''"""Successes of repeated trials by store."""

import pyarrow as pa
import pymc as pm

from lindley import Declaration, PanelPolicy, Policy


def build(batch):
    with pm.Model() as model:
        theta = pm.Beta("theta", 2, 3)
        pm.Binomial("y", batch["n"].to_numpy(), theta, observed=batch["k"].to_numpy())
    return model


declaration = Declaration(
    name="shops",
    build=build,
    schema=pa.schema(
        [
            pa.field("store", pa.string(), nullable=False),
            *(pa.field(name, pa.int64(), nullable=False) for name in ("id", "k", "n")),
        ]
    ),
    by=("store",),
    row_key=("id",),
    observed=("k",),
    carried=("theta",),
    policy=Policy(ess=100),
)
'''
#: A store whose successes exceed its trials: its fit fails.
BROKEN = 99


def declare(folder: Path, code: str = "", **replaced: str) -> Declaration:
    """Write the model file, with texts replaced and code appended, and load its declaration."""
    text = MODEL
    for old, new in replaced.items():
        text = text.replace(old, new)
    path = folder / f"{NAME}.py"
    path.write_text(text + code, encoding="utf-8")
    return load_file(path)


def rows(stores: dict[str, int], start: int, count: int = 3) -> pd.DataFrame:
    """Return `count` rows of each store, with ids from `start`: so many successes in 10 trials each."""
    parts = [
        pd.DataFrame({"store": store, "id": np.arange(start, start + count), "k": k, "n": 10})
        for store, k in stores.items()
    ]
    return pd.concat(parts, ignore_index=True)


def batch(declaration: Declaration, stores: dict[str, int], start: int, origin: str = "") -> Batch:
    """Return a batch of the rows of some stores."""
    return batch_from_frame(rows(stores, start), declaration, origin or f"shops-{start:03d}.csv")


def planned(ledger: Ledger, declaration: Declaration, of: Batch) -> Plan:
    """Plan an update that has something to do."""
    plan = plan_update(ledger, declaration, of)
    assert plan.noop is None, plan.noop
    return plan


def append(ledger: Ledger, declaration: Declaration, of: Batch, shards: int = 1) -> Registered:
    """Plan, fit, log and register a batch."""
    return done(ledger, planned(ledger, declaration, of), shards)


def done(ledger: Ledger, plan: Plan, shards: int = 1) -> Registered:
    """Fit, log and register a plan of a panel."""
    outcome: PanelOutcome | None = None if plan.target is not None else fit_panel(plan, shards=shards)
    return register_link(ledger, log_plan(ledger, plan, outcome))
