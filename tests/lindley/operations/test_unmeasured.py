"""Chains whose matches hindsight cannot measure, against an exact posterior: a level with carried state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lindley.batch.batch import batch_from_frame
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import register_link
from lindley.model.declaration import load_file
from lindley.operations.log import log_plan
from lindley.operations.plan import Plan, fit_plan
from lindley.operations.rebase import plan_rebase, rebase_due
from lindley.operations.update import plan_update
from lindley.verification.gather import verify_chain
from tests.support.fakes import MemoryLedger
from tests.support.oracles import local_level

MODEL = """
import pyarrow as pa
import pymc as pm

from lindley import Declaration, Policy


def build(batch):
    with pm.Model() as model:
        log_sigma = pm.Normal("log_sigma", 0, 1)
        start = pm.Normal("start", 0, 2)
        level = start + 0.5 * pm.math.cumsum(pm.Normal("steps", 0, 1, shape=len(batch)))
        pm.Deterministic("end", level[-1])
        pm.Normal("outcome", level, pm.math.exp(log_sigma), observed=pm.Data("y", batch["y"].to_numpy()))
    return model


declaration = Declaration(
    name="level",
    build=build,
    schema=pa.schema([pa.field("t", pa.int64()), pa.field("y", pa.float64())]),
    row_key=("t",),
    observed=("y",),
    carry={"start": "end"},
    policy=Policy(refit_rows=1),
)
"""
ROWS, BATCHES = 20, 8


@pytest.mark.faults
def test_the_stated_error_of_a_chain_with_state_holds_after_the_first_refit(tmp_path: Path) -> None:
    (tmp_path / "level.py").write_text(MODEL, encoding="utf-8")
    declaration, ledger, rng = load_file(tmp_path / "level.py"), MemoryLedger(), np.random.default_rng(2)
    y = 1 + np.cumsum(0.5 * rng.normal(size=ROWS * BATCHES)) + 0.5 * rng.normal(size=ROWS * BATCHES)
    refits = []

    def link(plan: Plan, rows: int) -> tuple[float, dict[str, float]]:
        outcome = fit_plan(plan)
        assert outcome is not None
        register_link(ledger, log_plan(ledger, plan, outcome))
        exact, found = local_level(y[:rows], 0.5), outcome.info.summary
        found = found.loc[list(exact.names)]
        means = np.abs(found["mean"].to_numpy() - exact.mean) / exact.sd
        sds = np.abs(np.log(found["sd"].to_numpy() / exact.sd))
        return float(max(means.max(), sds.max())), outcome.metrics

    for number in range(BATCHES):
        rows = ROWS * (number + 1)
        t = np.arange(rows - ROWS, rows)
        batch = batch_from_frame(pd.DataFrame({"t": t, "y": y[t]}), declaration, f"{number}.csv")
        error, metrics = link(plan_update(ledger, declaration, batch), rows)
        assert ("stated_error" in metrics) == (number != 1)
        assert error <= metrics.get("stated_error", np.inf)
        if rebase_due(find_chain(ledger, "level"), declaration) is not None:
            refits.append(number + 1)
            error, metrics = link(plan_rebase(ledger, declaration), rows)
            assert error <= metrics["stated_error"]
    assert refits[:2] == [2, 4]
    assert len(refits) <= 3
    report = verify_chain(ledger, "level")
    assert (report.findings, report.ok) == ((), True)
