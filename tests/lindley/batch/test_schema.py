"""Schemas: casts that lose nothing, columns and nulls refused by name, pandera in one paragraph."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindley.batch.batch import as_schema
from lindley.batch.digest import content_digest
from lindley.errors import BatchRefused, DeclarationRefused


def _cast(values: list[Any], source: pa.DataType, target: pa.DataType) -> pa.ChunkedArray:
    table = as_schema(pa.schema([("x", target)])).conform(pa.table({"x": pa.array(values, source)}))
    assert table.schema.field("x").type == target
    return table.column("x")


TEXT, UTC = pa.string(), pa.timestamp("s", "UTC")
NOON = dt.datetime(2020, 1, 2, 12)


@pytest.mark.parametrize(
    ("values", "source", "target", "expected"),
    [
        (["1", " -2 ", "+3", "4.0", "1e3", None], TEXT, pa.int64(), [1, -2, 3, 4, 1000, None]),
        (["9007199254740993", "1.0"], TEXT, pa.int64(), [9007199254740993, 1]),
        (["18446744073709551615"], TEXT, pa.uint64(), [2**64 - 1]),
        (["1", "1.5", "1e-3", "inf", "-Infinity"], TEXT, pa.float64(), [1, 1.5, 1e-3, np.inf, -np.inf]),
        (["0.1"], TEXT, pa.float32(), [np.float32(0.1)]),
        (["true", "FALSE", "0", "1"], TEXT, pa.bool_(), [True, False, False, True]),
        (["1.50", "2"], TEXT, pa.decimal128(5, 1), [Decimal("1.5"), Decimal("2.0")]),
        (["2020-01-02", "2020-01-02 00:00:00"], TEXT, pa.date32(), [dt.date(2020, 1, 2)] * 2),
        (["2020-01-02T12:00", "2020-01-02 12:00:00"], TEXT, pa.timestamp("s"), [NOON] * 2),
        (["2020-01-02T14:00:00+02:00"], TEXT, UTC, [NOON.replace(tzinfo=dt.UTC)]),
        (["12:30:00", "12:30:00.5"], TEXT, pa.time64("us"), [dt.time(12, 30), dt.time(12, 30, 0, 500_000)]),
        (["a"], TEXT, pa.large_string(), ["a"]),
        (["é"], TEXT, pa.binary(), ["é".encode()]),
        ([b"ok"], pa.binary(), TEXT, ["ok"]),
        ([1, 2], pa.int64(), pa.int8(), [1, 2]),
        ([1, 2**60, None], pa.int64(), pa.float64(), [1.0, 2.0**60, None]),
        ([0, 1, None], pa.int64(), pa.bool_(), [False, True, None]),
        ([12, None], pa.int64(), pa.decimal128(5, 2), [Decimal("12.00"), None]),
        ([1.0, 2.0], pa.float64(), pa.int64(), [1, 2]),
        ([0.5, np.inf], pa.float64(), pa.float32(), [0.5, np.inf]),
        ([Decimal("0.1")], pa.decimal128(30, 20), pa.float64(), [0.1]),
        ([Decimal("3.00")], pa.decimal128(5, 2), pa.int64(), [3]),
        ([dt.date(2020, 1, 2)], pa.date64(), pa.date32(), [dt.date(2020, 1, 2)]),
        ([dt.date(2020, 1, 2)], pa.date32(), pa.timestamp("ns"), [pd.Timestamp(2020, 1, 2)]),
        ([dt.datetime(2020, 1, 2)], pa.timestamp("ns"), pa.date32(), [dt.date(2020, 1, 2)]),
        ([0], pa.timestamp("ms", "Europe/Paris"), UTC, [dt.datetime(1970, 1, 1, tzinfo=dt.UTC)]),
        ([1_000], pa.timestamp("ms"), pa.timestamp("s"), [dt.datetime(1970, 1, 1, 0, 0, 1)]),
        ([None, None], pa.null(), pa.date32(), [None, None]),
        ([None], pa.float64(), TEXT, [None]),
    ],
    ids=str,
)
def test_casts_that_keep_every_value(
    values: list[Any], source: pa.DataType, target: pa.DataType, expected: list[Any]
) -> None:
    assert _cast(values, source, target).to_pylist() == expected


@pytest.mark.parametrize(
    ("values", "source", "target", "named"),
    [
        (["1", "1.5"], TEXT, pa.int64(), "'1.5' in row 2"),
        (["1", "2", "x"], TEXT, pa.int64(), "'x' in row 3"),
        (["0x10"], TEXT, pa.int64(), "'0x10' in row 1"),
        (["1_000"], TEXT, pa.int64(), "'1_000' in row 1"),
        (["NaN"], TEXT, pa.int64(), "'NaN' in row 1"),
        (["1", ""], TEXT, pa.int64(), "'' in row 2"),
        (["300"], TEXT, pa.int8(), "'300' in row 1"),
        (["-1"], TEXT, pa.uint8(), "'-1' in row 1"),
        (["1e17"], TEXT, pa.int64(), "'1e17' in row 1"),
        (["99999999999999999999"], TEXT, pa.int64(), "row 1"),
        (["1,5"], TEXT, pa.float64(), "'1,5' in row 1"),
        (["1e999"], TEXT, pa.float64(), "'1e999' in row 1"),
        (["1e39"], TEXT, pa.float32(), "'1e39' in row 1"),
        (["yes"], TEXT, pa.bool_(), "'yes' in row 1"),
        (["1.55"], TEXT, pa.decimal128(5, 1), "'1.55' in row 1"),
        (["22/01/2020"], TEXT, pa.date32(), "'22/01/2020' in row 1"),
        (["2020-01-02 12:00:00"], TEXT, pa.date32(), "row 1"),
        (["2020-02-30"], TEXT, pa.date32(), "'2020-02-30' in row 1"),
        (["2020-01-02T12:00:00.5"], TEXT, pa.timestamp("s"), "row 1"),
        (["2020-01-02T12:00:00Z"], TEXT, pa.timestamp("s"), "row 1"),
        (["2020-01-02T12:00:00"], TEXT, UTC, "row 1"),
        (["25:00:00"], TEXT, pa.time32("s"), "'25:00:00' in row 1"),
        (["1 days"], TEXT, pa.duration("s"), "'1 days'"),
        ([b"\xff"], pa.binary(), TEXT, "row 1"),
        ([1, 300], pa.int64(), pa.int8(), "300 in row 2"),
        ([-1], pa.int64(), pa.uint64(), "-1 in row 1"),
        ([2**53 + 1], pa.int64(), pa.float64(), f"{2**53 + 1} in row 1"),
        ([2**63 - 1], pa.int64(), pa.float64(), "row 1"),
        ([2], pa.int64(), pa.bool_(), "2 in row 1"),
        ([12345], pa.int64(), pa.decimal128(5, 2), "12345 in row 1"),
        ([1.0, 1.5], pa.float64(), pa.int64(), "1.5 in row 2"),
        ([float("nan")], pa.float64(), pa.int64(), "nan in row 1"),
        ([0.1], pa.float64(), pa.float32(), "0.1 in row 1"),
        ([1e300], pa.float64(), pa.float32(), "row 1"),
        ([Decimal("1.5")], pa.decimal128(5, 1), pa.int64(), "row 1"),
        ([Decimal("1.5")], pa.decimal128(5, 1), pa.decimal128(5, 0), "row 1"),
        ([NOON], pa.timestamp("us"), pa.date32(), "row 1"),
        ([1_500], pa.timestamp("ms"), pa.timestamp("s"), "row 1"),
        ([10**12], pa.timestamp("s"), pa.timestamp("ns"), "row 1"),
        ([7], pa.int64(), TEXT, "for example 7"),
        ([7.0], pa.float64(), TEXT, "for example 7.0"),
        ([True], pa.bool_(), pa.int64(), "for example True"),
        ([1.5], pa.float64(), pa.decimal128(5, 1), "for example 1.5"),
        ([NOON], pa.timestamp("us"), UTC, "time zone"),
        ([0], UTC, pa.timestamp("us"), "time zone"),
        ([0], UTC, pa.date32(), "for example"),
        ([1], pa.int64(), pa.date32(), "for example 1"),
    ],
    ids=str,
)
def test_casts_that_would_lose_something_are_refused(
    values: list[Any], source: pa.DataType, target: pa.DataType, named: str
) -> None:
    with pytest.raises(BatchRefused, match="'x'") as caught:
        _cast(values, source, target)
    assert named in str(caught.value)


@given(st.integers(0, 300), st.integers(0, 300))
def test_the_first_bad_row_is_found_in_any_chunk(row: int, cut: int) -> None:
    values = ["1"] * 301
    values[row] = "bad"
    column = pa.chunked_array([values[:cut], values[cut:]], TEXT)
    with pytest.raises(BatchRefused, match=rf"'bad' in row {row + 1}\."):
        as_schema(pa.schema([("x", pa.int64())])).conform(pa.table({"x": column}))


def test_nan_survives_where_it_is_admitted() -> None:
    assert np.isnan(_cast(["nan", "NaN"], TEXT, pa.float64()).to_numpy()).all()
    assert np.isnan(_cast([float("nan")], pa.float64(), pa.float32()).to_numpy()).all()


def test_encodings_are_undone_and_metadata_dropped() -> None:
    column = pa.array(["a", "b", "a"]).dictionary_encode()
    schema = as_schema(pa.schema([("x", pa.dictionary(pa.int8(), TEXT))], metadata={"a": "b"}))
    table = schema.conform(pa.table({"x": column}, metadata={"c": "d"}))
    assert table.schema == pa.schema([("x", TEXT)])
    assert not table.schema.metadata


def test_columns_come_in_declared_order() -> None:
    schema = as_schema(pa.schema([("a", pa.int64()), ("b", pa.int64())]))
    assert schema.conform(pa.table({"b": [1], "a": [2]})).column_names == ["a", "b"]


@pytest.mark.parametrize(
    "schema",
    [
        pa.schema([("a", pa.int64()), ("b", pa.int64())]),
        pandera.DataFrameSchema({"a": pandera.Column(int), "b": pandera.Column(int)}),
    ],
    ids=["arrow", "pandera"],
)
def test_missing_unexpected_and_repeated_columns_are_named(schema: Any) -> None:
    with pytest.raises(BatchRefused, match="missing: 'b'; unexpected: 'c'"):
        as_schema(schema).conform(pa.table({"a": [1], "c": [1]}))
    twice = pa.Table.from_arrays([pa.array([1])] * 3, names=["a", "b", "b"])
    with pytest.raises(BatchRefused, match="repeated: 'b'"):
        as_schema(schema).conform(twice)


def test_null_and_nan_are_refused_where_not_nullable() -> None:
    schema = as_schema(pa.schema([pa.field("a", pa.float64(), nullable=False), pa.field("b", TEXT)]))
    table = pa.table({"a": [1.0, float("nan"), None, float("nan"), float("nan")], "b": [None] * 5})
    with pytest.raises(BatchRefused, match=r"'a' in 4 rows \(row 2, 3, 4, \.\.\.\)") as caught:
        schema.conform(table)
    assert "'b'" not in str(caught.value)
    ints = as_schema(pa.schema([pa.field("a", pa.int64(), nullable=False)]))
    with pytest.raises(BatchRefused, match=r"'a' in 1 row \(row 1\)"):
        ints.conform(pa.table({"a": pa.array([None], pa.int64())}))


@pytest.mark.parametrize(
    "schema",
    [
        {"a": "int64"},
        None,
        pa.schema([]),
        pa.schema([("a", pa.int64()), ("a", pa.int64())]),
        pa.schema([("a", pa.list_(pa.int64()))]),
        pa.schema([("a", pa.null())]),
        pandera.DataFrameSchema({}),
        pandera.DataFrameSchema({"a": pandera.Column(int)}, index=pandera.Index(int)),
        pandera.DataFrameSchema({"a": pandera.Column(complex)}),
        pandera.SeriesSchema(int),
    ],
    ids=str,
)
def test_schemas_that_cannot_be_used_are_refused(schema: Any) -> None:
    with pytest.raises(DeclarationRefused):
        as_schema(schema)


def test_pandera_is_not_imported_for_arrow_schemas() -> None:
    code = (
        "import sys, pyarrow as pa, lindley.batch.batch as s;"
        "s.as_schema(pa.schema([('a', pa.int8())])); sys.exit('pandera' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


class Cases(pandera.DataFrameModel):
    """A model with what people use: types, checks, gaps, categories."""

    day: pandera.Date
    region: str
    cases: int = pandera.Field(ge=0)
    rate: float = pandera.Field(nullable=True)
    tests: pd.Int64Dtype = pandera.Field(nullable=True)
    wave: pd.CategoricalDtype = pandera.Field(dtype_kwargs={"categories": ["first", "second"]})
    seen: pd.DatetimeTZDtype = pandera.Field(dtype_kwargs={"unit": "ns", "tz": "UTC"})


CASES = {
    "day": ["2020-01-22", "2020-01-23"],
    "region": ["007", "07"],
    "cases": ["3", "8.0"],
    "rate": ["0.5", None],
    "tests": ["9007199254740993", None],
    "wave": ["first", "second"],
    "seen": ["2020-01-22T00:00:00Z", "2020-01-23T01:00:00+01:00"],
}


def test_pandera_model_from_text() -> None:
    table = as_schema(Cases).conform(pa.table(CASES))
    assert table.column_names == list(CASES)
    assert table.schema.types == [
        pa.date32(), TEXT, pa.int64(), pa.float64(), pa.int64(), TEXT, pa.timestamp("ns", "UTC"),
    ]  # fmt: skip
    assert table.column("tests").to_pylist() == [9007199254740993, None]
    assert table.column("region").to_pylist() == ["007", "07"]
    assert table.schema.metadata is None
    again = as_schema(Cases).conform(table)
    assert again.equals(table)


def test_pandera_failures_become_one_paragraph() -> None:
    schema = pandera.DataFrameSchema(
        {
            "a": pandera.Column(int, pandera.Check.gt(0)),
            "b": pandera.Column(float, pandera.Check(lambda s: s.sum() > 0, error="the sum is positive")),
        },
        checks=pandera.Check(lambda d: d["a"] < d["b"], error="a below b"),
    )
    table = pa.table({"a": [-1, -2, -3, -4, 5], "b": [0.0, -1.0, -9.0, -9.0, 9.0]})
    with pytest.raises(BatchRefused) as caught:
        as_schema(schema).conform(table)
    text = str(caught.value)
    assert "column 'a' fails greater_than(0) in 4 rows (row 1: -1, row 2: -2, row 3: -3, ...)" in text
    assert "column 'b' fails the sum is positive" in text
    assert "a below b" in text
    assert "\n" not in text


def test_pandera_missing_values_are_named_by_row() -> None:
    with pytest.raises(BatchRefused, match=r"'cases' in 1 row \(row 2\)"):
        as_schema(Cases).conform(pa.table({**CASES, "cases": ["1", None]}))


def test_pandera_never_coerces_with_loss() -> None:
    schema = pandera.DataFrameSchema({"a": pandera.Column(int)}, coerce=True)
    with pytest.raises(BatchRefused, match=r"1\.5 in row 2"):
        as_schema(schema).conform(pa.table({"a": [1.0, 1.5]}))
    with pytest.raises(BatchRefused, match=r"categories.*'third'"):
        as_schema(Cases).conform(pa.table({**CASES, "wave": ["first", "third"]}))


def test_pandera_filter_drops_extras_and_other_schemas_refuse_them() -> None:
    extra = pa.table({"a": [1], "b": [2]})
    keeps = pandera.DataFrameSchema({"a": pandera.Column(int)}, strict="filter")
    assert as_schema(keeps).conform(extra).column_names == ["a"]
    for strict in (True, False):
        schema = pandera.DataFrameSchema({"a": pandera.Column(int)}, strict=strict)
        with pytest.raises(BatchRefused, match="unexpected: 'b'"):
            as_schema(schema).conform(extra)


def test_pandera_open_types_optional_and_regex_columns() -> None:
    schema = as_schema(
        pandera.DataFrameSchema({
            "any": pandera.Column(None, nullable=True),
            "object": pandera.Column(object),
            "count_.*": pandera.Column("int32", regex=True),
            "maybe": pandera.Column(float, required=False),
            "day": pandera.Column("datetime64[ns]"),
            "money": pandera.Column(pandera.Decimal(10, 2)),
            "narrow": pandera.Column(pd.ArrowDtype(pa.int16())),
        })
    )  # fmt: skip
    table = schema.conform(
        pa.table({
            "count_b": ["2"],
            "count_a": [1],
            "any": [1.5],
            "object": ["x"],
            "day": ["2020-01-01"],
            "money": ["1.5"],
            "narrow": ["3"],
        })
    )  # fmt: skip
    assert table.column_names == ["any", "object", "count_a", "count_b", "day", "money", "narrow"]
    assert table.schema.types == [
        pa.float64(), TEXT, pa.int32(), pa.int32(), pa.timestamp("ns"), pa.decimal128(10, 2), pa.int16(),
    ]  # fmt: skip
    with pytest.raises(BatchRefused, match=r"missing: 'count_\.\*'"):
        schema.conform(table.drop_columns(["count_a", "count_b"]))


def test_pandera_parsers_and_defaults_shape_the_batch() -> None:
    schema = pandera.DataFrameSchema({
        "a": pandera.Column(float, default=0.5),
        "b": pandera.Column(str, parsers=pandera.Parser(lambda s: s.str.upper())),
    })  # fmt: skip
    table = as_schema(schema).conform(pa.table({"a": [None, 1.0], "b": ["x", "y"]}))
    assert table.to_pydict() == {"a": [0.5, 1.0], "b": ["X", "Y"]}


def test_pandera_parser_that_raises_refuses_the_batch() -> None:
    def broken(frame: pd.DataFrame) -> pd.DataFrame:
        raise KeyError("nowhere")

    schema = pandera.DataFrameSchema({"a": pandera.Column(int)}, parsers=pandera.Parser(broken))
    with pytest.raises(BatchRefused, match="nowhere"):
        as_schema(schema).conform(pa.table({"a": [1]}))


def test_arrow_and_pandera_schemas_lead_to_the_same_digest() -> None:
    arrow = pa.schema([("n", pa.int64()), ("s", TEXT), ("x", pa.float64())])
    columns = {"n": int, "s": str, "x": float}
    schema = pandera.DataFrameSchema({name: pandera.Column(kind) for name, kind in columns.items()})
    table = pa.table({"n": ["1", "2"], "s": ["a", "b"], "x": ["0.1", "-0.0"]})
    assert content_digest(as_schema(arrow).conform(table)) == content_digest(as_schema(schema).conform(table))
