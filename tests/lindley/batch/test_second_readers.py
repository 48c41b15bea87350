"""What Lindley reads of a file is what an independent reader reads of it: Python's csv module, DuckDB."""

from __future__ import annotations

import csv
import io
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lindley.batch.batch import as_schema
from lindley.batch.expected import Expected
from lindley.batch.reading import read_table
from lindley.errors import BatchUnreadable

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), include_characters='\n"\\,;'), max_size=8)
FREQUENT = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TYPES = {
    "text": (pa.string(), TEXT),
    "int": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "float": (pa.float64(), st.floats(allow_nan=False)),
    "flag": (pa.bool_(), st.booleans()),
    "day": (pa.date32(), st.dates()),
    "time": (pa.timestamp("us"), st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31))),
}


def expected(**types: pa.DataType) -> Expected:
    return Expected(schema=as_schema(pa.schema(list(types.items()))))


@given(
    rows=st.lists(st.tuples(st.one_of(st.none(), TEXT), TEXT), min_size=1, max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC, csv.QUOTE_NOTNULL]),
    end=st.sampled_from(["\n", "\r\n"]),
)
@FREQUENT
def test_csv_is_read_as_python_reads_it(
    tmp_path: Path, rows: list[tuple[str | None, str]], quoting: int, end: str
) -> None:
    out = io.StringIO()
    writer = csv.writer(out, quoting=quoting, lineterminator=end)
    writer.writerows([("a", "b"), *rows])
    path = tmp_path / "week.csv"
    path.write_bytes(out.getvalue().encode())
    try:
        found = read_table(path, expected(a=pa.string(), b=pa.string()))
    except BatchUnreadable:
        # Refused is exact too, but only for what readers disagree about.
        assert any('\\"' in (value or "") for row in rows for value in row)
        return
    second = [row for row in csv.reader(io.StringIO(out.getvalue(), newline=""), strict=True) if row][1:]
    plain = [[value or "" for value in row] for row in zip(*found.to_pydict().values(), strict=True)]
    assert plain == second


@pytest.mark.parametrize("kind", TYPES)
@given(data=st.data())
@settings(parent=FREQUENT, max_examples=15)
def test_parquet_is_read_as_duckdb_reads_it(tmp_path: Path, kind: str, data: st.DataObject) -> None:
    arrow, values = TYPES[kind]
    column = data.draw(st.lists(st.one_of(st.none(), values), min_size=1, max_size=6))
    path = tmp_path / "week.parquet"
    pq.write_table(pa.table({"x": pa.array(column, arrow)}), path, **data.draw(options(kind)))
    found = read_table(path, expected(x=arrow)).column("x")
    second = duckdb.sql(f"SELECT x FROM read_parquet('{path}')").fetchall()
    assert [plain(value) for value in found.to_pylist()] == [plain(value) for (value,) in second]


@st.composite
def options(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    """Settings of a writer: page version, compression, dictionary or an encoding."""
    found: dict[str, Any] = {
        "data_page_version": draw(st.sampled_from(["1.0", "2.0"])),
        "compression": draw(st.sampled_from(["none", "snappy", "zstd", "gzip"])),
        "version": draw(st.sampled_from(["1.0", "2.4", "2.6"])),
    }
    encodings = {
        "text": ["PLAIN", "DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"],
        "int": ["PLAIN", "DELTA_BINARY_PACKED", "BYTE_STREAM_SPLIT"],
        "float": ["PLAIN", "BYTE_STREAM_SPLIT"],
    }.get(kind, ["PLAIN"])
    if not draw(st.booleans()):
        found |= {"use_dictionary": False, "column_encoding": {"x": draw(st.sampled_from(encodings))}}
    return found


def plain(value: Any) -> Any:
    """Return a value in the form that both readers give it."""
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime()
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value.astimezone(UTC)
    return "nan" if isinstance(value, float) and math.isnan(value) else value
