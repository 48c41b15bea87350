"""Digests of batches that come in by files: the same content through every way in, and what differs."""

from __future__ import annotations

import csv
import datetime as dt
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.compute
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lindley.batch.batch import batch_from_frame
from lindley.batch.digest import content_digest
from lindley.batch.reading import read_batch
from lindley.model.declaration import Declaration
from tests.lindley.batch.test_digest import KINDS

#: Kinds whose values a CSV file can state: through it, text that the schema casts.
_IN_CSV = ("bool", "int", "float", "string", "date", "timestamp", "timestamptz", "decimal")


@st.composite
def batches(draw: st.DrawFn) -> pa.Table:
    """Tables with an integer key and columns of kinds that a CSV file can state, without nulls in them."""
    kinds = draw(st.lists(st.sampled_from(_IN_CSV), min_size=1, max_size=3))
    rows = draw(st.integers(1, 6))
    columns = {"id": pa.array(range(rows), pa.int64())}
    for i, kind in enumerate(kinds):
        arrow, values = KINDS[kind]
        if kind == "string":
            values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
        if kind.startswith("timestamp"):
            values = st.integers(0, 2**32)
        if kind == "date":
            values = st.dates(dt.date(1800, 1, 1))
        columns[f"{kind} {i}"] = pa.array(draw(st.lists(values, min_size=rows, max_size=rows)), arrow)
    return pa.table(columns)


def _through_csv(table: pa.Table, path: Path) -> None:
    """Write a table as people write CSV: every value as text, floats to the last digit."""

    def text(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return "NaN" if value != value else repr(value)
        return str(value)

    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL)
        writer.writerow(table.column_names)
        writer.writerows([text(value) for value in row.values()] for row in table.to_pylist())


@given(batches(), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_one_batch_through_every_way_in(table: pa.Table, random) -> None:
    """CSV, Parquet (plain, in chunks, encoded), pandas with numpy and with Arrow types: one digest."""
    declaration = Declaration(
        name="ways", build=lambda _: None, schema=table.schema, row_key=("id",), observed=()
    )  # fmt: skip
    order = list(range(table.num_rows))
    random.shuffle(order)
    shuffled = table.take(order).select(random.sample(table.column_names, table.num_columns))
    cut = random.randint(0, table.num_rows)
    encoded = pa.table({
        name: column if pa.types.is_boolean(column.type) else column.combine_chunks().dictionary_encode()
        for name, column in zip(shuffled.column_names, shuffled.columns, strict=True)
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _through_csv(shuffled, folder / "a.csv")
        pq.write_table(shuffled, folder / "b.parquet", row_group_size=2, compression="zstd")
        pq.write_table(encoded, folder / "c.parquet", version="1.0" if cut else "2.6")
        pq.write_table(pa.concat_tables([shuffled.slice(cut), shuffled.slice(0, cut)]), folder / "d.parquet")
        read = [read_batch(path, declaration) for path in sorted(folder.iterdir())]
    frames = [shuffled.to_pandas(), shuffled.to_pandas(types_mapper=pd.ArrowDtype)]
    # To pandas NaN is a missing value, which no column here may hold.
    missing = any(frame.isna().any(axis=None) for frame in frames)
    read += [] if missing else [batch_from_frame(frame, declaration) for frame in frames]
    assert {batch.digest for batch in read} == {content_digest(table)}


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("2020-01-22T12:00:00Z", "2020-01-22 12:00:00+00:00", True),
        ("2020-01-22T12:00:00Z", "2020-01-22T14:00:00+02:00", True),
        ("2020-01-22T12:00:00Z", "2020-01-22T07:00:00-0500", True),
        ("2020-01-22T12:00:00Z", "2020-01-22T12:00:00.000Z", True),
        ("2020-01-22T12:00:00Z", "2020-01-22T12:00:00.001Z", False),
        ("2020-01-22T12:00:00Z", "2020-01-22T12:00:00+01:00", False),
    ],
)
def test_an_instant_written_differently_is_one_instant(
    tmp_path: Path, one: str, two: str, same: bool
) -> None:
    schema = pa.schema([("id", pa.int64()), ("at", pa.timestamp("ms", "UTC"))])
    declaration = Declaration(name="times", build=lambda _: None, schema=schema, row_key=("id",))
    digests = []
    for text in (one, two):
        (tmp_path / "a.csv").write_text(f"id,at\n1,{text}\n")
        digests.append(read_batch(tmp_path / "a.csv", declaration).digest)
    assert (digests[0] == digests[1]) is same


@pytest.mark.parametrize(
    "texts",
    [
        ("0.1", "0.10000000000000002"),
        ("0.0", "-0.0"),
        ("NaN", ""),
        ("1", "1.0000000000000002"),
        ("inf", "NaN"),
    ],
)
def test_floats_that_differ_in_a_file_differ(tmp_path: Path, texts: tuple[str, str]) -> None:
    schema = pa.schema([("id", pa.int64()), ("x", pa.float64())])
    declaration = Declaration(name="floats", build=lambda _: None, schema=schema, row_key=("id",))
    digests = set()
    for text in texts:
        (tmp_path / "a.csv").write_text(f"id,x\n1,{text}\n")
        digests.add(read_batch(tmp_path / "a.csv", declaration).digest)
    assert len(digests) == 2
