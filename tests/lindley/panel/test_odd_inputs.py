"""Odd files of a panel: a clear refusal before anything is written, or the right answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from scipy import stats

from lindley.batch.batch import Batch, batch_from_frame
from lindley.batch.digest import content_digest
from lindley.batch.reading import read_batch
from lindley.errors import BatchRefused, DeclarationRefused, LindleyError
from lindley.ledger.history import find_link
from lindley.model.declaration import Declaration
from lindley.operations.update import plan_update
from lindley.panel.link import panel_link
from lindley.panel.members import MOST_MEMBERS
from lindley.verification.gather import verify_chain
from tests.support import panels
from tests.support.fakes import MemoryLedger

NULLABLE = {'pa.field("store", pa.string(), nullable=False)': 'pa.field("store", pa.string())'}
FLOATS = {'pa.field("store", pa.string(), nullable=False)': 'pa.field("store", pa.float64(), nullable=False)'}


def refused(ledger: MemoryLedger, declaration: Declaration, batch: Any, kind: type[LindleyError]) -> str:
    """Return the refusal of an update; nothing may have been written."""
    before = {run_id: (run.status, dict(run.files)) for run_id, run in ledger.runs.items()}
    with pytest.raises(kind) as caught:
        plan_update(ledger, declaration, batch() if callable(batch) else batch)
    assert {run_id: (run.status, dict(run.files)) for run_id, run in ledger.runs.items()} == before
    error = caught.value
    assert error.expected
    assert error.found
    assert error.todo
    return str(error)


def test_a_key_with_a_null_is_refused_with_its_row(panel: MemoryLedger, tmp_path: Any) -> None:
    declaration = panels.declare(tmp_path, **NULLABLE)
    file = tmp_path / "nulls.csv"
    file.write_text("store,id,k,n\ns0,50,1,10\n,51,1,10\n")
    for ledger in (panel, MemoryLedger()):
        text = refused(ledger, declaration, lambda: read_batch(file, declaration), BatchRefused)
        assert "store" in text


def test_a_key_column_of_floats_is_refused(tmp_path: Any) -> None:
    declaration = panels.declare(tmp_path, **FLOATS)
    frame = pd.DataFrame({"store": [1.0, 2.5], "id": [1, 2], "k": 1, "n": 10})
    text = refused(
        MemoryLedger(), declaration, lambda: batch_from_frame(frame, declaration), DeclarationRefused
    )
    assert "double" in text


def test_a_row_key_that_a_member_has_twice_is_refused(panel: MemoryLedger, shops: Declaration) -> None:
    frame = pd.concat([panels.rows({"s0": 1, "s1": 2}, 60, 2), panels.rows({"s1": 3}, 61, 1)])
    text = refused(panel, shops, lambda: batch_from_frame(frame, shops), BatchRefused)
    assert "repeated" in text


def test_a_million_keys_are_refused_before_anything_is_written(
    panel: MemoryLedger, shops: Declaration
) -> None:
    count = 1_000_000
    ids = pa.array(np.arange(count))
    names = pa.compute.binary_join_element_wise("key", ids.cast(pa.string()), "-")
    ones = pa.array(np.ones(count, dtype=np.int64))
    table = pa.table({"store": names, "id": ids, "k": ones, "n": ones})
    batch = Batch(table=table, digest=content_digest(table), key=shops.row_key, origin="million.parquet")
    text = refused(panel, shops, batch, BatchRefused)
    assert f"{MOST_MEMBERS:,}" in text


def test_a_member_with_one_row_has_its_posterior(shops: Declaration) -> None:
    ledger = MemoryLedger()
    frame = pd.concat([panels.rows({"one": 7}, 0, 1), panels.rows({"s0": 3}, 0, 3)])
    panels.append(ledger, shops, batch_from_frame(frame, shops, "one.csv"))
    row = panel_link(find_link(ledger, panels.NAME)).member(store="one").row
    exact, found, metrics = stats.beta(2 + 7, 3 + 3), row.state["summary"]["theta"], row.attempt["metrics"]
    assert (row.status, row.state["rows"], metrics["ess_bulk_min"] > 400) == ("accepted", 1, True)
    # Four standard errors of plain draws, which calibrated ones undercut.
    assert abs(found["mean"] - exact.mean()) < 4 * exact.std() / np.sqrt(metrics["ess_bulk_min"])
    assert verify_chain(ledger, panels.NAME).findings == ()
