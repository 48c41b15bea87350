"""Chains of model files written by a test, updated with the real sampler, and their heads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from lindley.batch.batch import Batch
from lindley.inference.sampling import FitSettings
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain, read_record, read_summary
from lindley.ledger.registration import register_link
from lindley.model.declaration import Declaration, load_file
from lindley.operations.log import log_plan
from lindley.operations.plan import Plan, fit_plan
from lindley.operations.update import plan_update

SETTINGS = FitSettings(draws=500, tune=300)
NOISE = 0.5


def declared(folder: Path, text: str) -> Declaration:
    path = folder / "model.py"
    path.write_text(text, encoding="utf-8")
    return load_file(path)


def add(ledger: Ledger, declaration: Declaration, batch: Batch) -> Plan:
    """Append a batch with the real sampler."""
    plan = replace(plan_update(ledger, declaration, batch), settings=SETTINGS)
    assert plan.noop is None
    found = register_link(ledger, log_plan(ledger, plan, fit_plan(plan)))
    assert found.status == "accepted"
    return plan


def head_of(ledger: Ledger, name: str) -> tuple[dict, pd.DataFrame]:
    head = find_chain(ledger, name).head
    assert head is not None
    record = read_record(ledger, head)
    return record, read_summary(ledger, head, record)


def holds(row: pd.Series, mean: float, sd: float, *, links: int) -> None:
    """Hold a head's parameter against a normal posterior; every link's match may add its error."""
    ess = min(row["ess_bulk"], row["ess_tail"])
    assert ess > 400
    assert abs(row["mean"] - mean) < 5 * sd * np.sqrt(links / ess)
    assert abs(row["sd"] / sd - 1) < 5 * np.sqrt(links / (2 * ess))
