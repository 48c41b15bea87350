"""Rows without columns that identify them: by content, or by their place in the file."""

from __future__ import annotations

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindley.batch.batch import Batch, batch_from_frame
from lindley.batch.row_keys import ranges_disjoint, shared_keys, split_by_keys
from lindley.errors import BatchRefused
from lindley.model.declaration import BY_CONTENT, BY_POSITION, Declaration

SCHEMA = pa.schema([pa.field("x", pa.float64()), pa.field("label", pa.string())])


def batch(rows: list[tuple[float | None, str | None]], key: tuple[str, ...]) -> Batch:
    declared = Declaration(name="m", build=lambda batch: None, schema=SCHEMA, row_key=key)
    frame = pd.DataFrame(rows, columns=["x", "label"])
    return batch_from_frame(frame.astype({"x": float}), declared)


@pytest.mark.parametrize("key", [BY_CONTENT, BY_POSITION])
def test_a_file_may_repeat_rows_and_have_gaps(key: tuple[str, ...]) -> None:
    rows = [(1.0, "a"), (1.0, "a"), (None, None), (None, None)]
    assert batch(rows, key).rows == 4
    with pytest.raises(BatchRefused, match="BY_CONTENT"):
        batch([(1.0, "a"), (1.0, "a")], ("x",))


@pytest.mark.parametrize("key", [BY_CONTENT, BY_POSITION])
def test_the_order_of_rows_makes_no_other_batch(key: tuple[str, ...]) -> None:
    rows = [(2.0, "a"), (1.0, None), (1.0, "b")]
    one, two = batch(rows, key), batch(rows[::-1], key)
    assert (one.digest, one.table) == (two.digest, two.table)


ROW = st.tuples(st.one_of(st.none(), st.sampled_from([0.0, 1.0, 2.5])), st.sampled_from([None, "a", "b"]))
ROWS = st.lists(ROW, min_size=1, max_size=8)


@given(mine=ROWS, theirs=ROWS)
def test_by_content_equal_rows_overlap_and_no_others(mine: list, theirs: list) -> None:
    one, two = batch(mine, BY_CONTENT), batch(theirs, BY_CONTENT)
    shared = shared_keys(one.table, one.key, two.table)
    kept, dropped = split_by_keys(one.table, one.key, shared)
    known = {tuple(row.values()) for row in two.table.to_pylist()}
    for table, overlaps in ((kept, False), (dropped, True)):
        assert all((tuple(row.values()) in known) == overlaps for row in table.to_pylist())
    assert kept.num_rows + dropped.num_rows == len(mine)
    if ranges_disjoint(one.key_ranges(), two.key_ranges()):
        assert dropped.num_rows == 0


def test_by_position_no_row_of_one_file_is_a_row_of_another() -> None:
    one = batch([(1.0, "a")], BY_POSITION)
    assert shared_keys(one.table, one.key, one.table).num_rows == 0
    assert one.key_ranges() == {}
