"""Batches: one identity whatever the file, order or library; keys that count every row once."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindley.batch.batch import Batch, batch_from_frame, write_batch
from lindley.batch.digest import content_digest
from lindley.batch.limits import Limits
from lindley.batch.reading import load_batch, read_batch
from lindley.batch.row_keys import ranges_disjoint, shared_keys
from lindley.errors import BatchRefused, BatchUnreadable, DeclarationRefused, LedgerCorrupt
from lindley.model.declaration import Declaration

SCHEMA = pa.schema([
    pa.field("day", pa.date32(), nullable=False),
    pa.field("region", pa.string(), nullable=False),
    pa.field("cases", pa.int32()),
    pa.field("rate", pa.float64()),
    pa.field("seen", pa.timestamp("us", "UTC")),
    pa.field("open", pa.bool_()),
])  # fmt: skip
CSV = """region,day,cases,rate,seen,open
02,2020-01-23,8,0.1,2020-01-23T01:00:00+01:00,true
02,2020-01-22,,,,
007,2020-01-23,3,-0.0,2020-01-22T00:00:00Z,false
"""


def _model(frame: pd.DataFrame) -> Any:
    raise AssertionError("batches never build the model")


def _declare(schema: Any = SCHEMA, key: tuple[str, ...] = ("day", "region"), **more: Any) -> Declaration:
    return Declaration(name="cases", build=_model, schema=schema, row_key=key, **more)


def _frame() -> pd.DataFrame:
    return pd.DataFrame({
        "day": pd.to_datetime(["2020-01-22", "2020-01-23", "2020-01-23"]),
        "region": ["02", "007", "02"],
        "cases": [np.nan, 3, 8],
        "rate": [np.nan, -0.0, 0.1],
        "seen": pd.to_datetime([None, "2020-01-22T01:00+01:00", "2020-01-23T01:00+01:00"], utc=False),
        "open": [None, False, True],
    })  # fmt: skip


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    path = tmp_path / "week.csv"
    path.write_text(CSV)
    return read_batch(path, _declare())


def _ints(values: list[int], **columns: list[Any]) -> Batch:
    frame = pd.DataFrame({"k": values, **columns})
    kinds = {"k": pa.int64(), **{name: pa.array(cells).type for name, cells in columns.items()}}
    return batch_from_frame(frame, _declare(pa.schema(list(kinds.items())), ("k",)))


def test_a_batch_is_sorted_typed_and_plain(batch: Batch) -> None:
    assert batch.rows == 3
    assert batch.key == ("day", "region")
    assert batch.origin == "week.csv"
    assert batch.table.schema.remove_metadata() == SCHEMA
    assert batch.table.schema.metadata is None
    assert batch.table.column("region").to_pylist() == ["02", "007", "02"]
    assert batch.digest == content_digest(batch.table)


def test_every_road_leads_to_the_same_batch(batch: Batch, tmp_path: Path) -> None:
    declaration = _declare()
    frame = _frame()
    roads = {
        "frame": batch_from_frame(frame, declaration),
        "reversed": batch_from_frame(frame[::-1], declaration),
        "columns": batch_from_frame(frame[sorted(frame.columns)], declaration),
        "index": batch_from_frame(frame.set_index(["region", "day"]), declaration),
        "categories": batch_from_frame(frame.astype({"region": "category"}), declaration),
        "extension": batch_from_frame(frame.convert_dtypes(), declaration),
        "arrow": batch_from_frame(batch.table.to_pandas(types_mapper=pd.ArrowDtype), declaration),
        "own": batch_from_frame(batch.frame(), declaration),
    }
    frame[::-1].to_csv(tmp_path / "a.csv", index=False)
    roads["pandas csv"] = read_batch(tmp_path / "a.csv", declaration)
    (tmp_path / "b.csv").write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    roads["excel csv"] = read_batch(tmp_path / "b.csv", declaration)
    batch.table.to_pandas().to_parquet(tmp_path / "c.parquet")
    roads["pandas parquet"] = read_batch(tmp_path / "c.parquet", declaration)
    pq.write_table(batch.table.take([2, 0, 1]), tmp_path / "d.parquet", row_group_size=1)
    roads["arrow parquet"] = read_batch(tmp_path / "d.parquet", declaration)
    assert {name: road.digest for name, road in roads.items()} == dict.fromkeys(roads, batch.digest)
    assert all(road.table.equals(batch.table) for road in roads.values())


def test_golden_digest(batch: Batch) -> None:
    """Frozen: the digest of a file must be the same in every release."""
    assert batch.digest == "9217ec27981d14977de34e8ece5c7a9a07b380497e7df2048d8665ea197077cc"


def test_frame_has_plain_dtypes_and_is_new_every_time(batch: Batch) -> None:
    frame = batch.frame()
    assert [str(dtype) for dtype in frame.dtypes] == [
        "datetime64[s]", "object", "float64", "float64", "datetime64[us, UTC]", "object",
    ]  # fmt: skip
    frame.loc[0, "rate"] = 5.0
    frame["rate"].to_numpy(copy=True)[:] = 1.0
    assert np.isnan(batch.frame().loc[0, "rate"])
    assert batch.digest == content_digest(batch.table)


def test_frame_dtypes_without_gaps() -> None:
    table = pa.table({
        "k": pa.array([1, 2], pa.int8()),
        "u": pa.array([1, 2**63], pa.uint64()),
        "f": pa.array([0.5, 1], pa.float32()),
        "b": [True, False],
        "d": [Decimal("1.5"), Decimal("2.5")],
        "t": pa.array([0, 1], pa.timestamp("ns")),
        "e": pa.array([0, 1], pa.duration("s")),
        "h": [dt.time(1), dt.time(2)],
        "y": [b"a", b"b"],
    })  # fmt: skip
    frame = batch_from_frame(table.to_pandas(), _declare(table.schema, ("k",))).frame()
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {
        "k": "int64", "u": "uint64", "f": "float64", "b": "bool", "d": "float64",
        "t": "datetime64[ns]", "e": "timedelta64[s]", "h": "object", "y": "object",
    }  # fmt: skip
    assert frame["d"].tolist() == [1.5, 2.5]


def test_order_by_comes_before_the_key() -> None:
    schema = pa.schema([("k", pa.int64()), ("g", pa.string())])
    frame = pd.DataFrame({"k": [3, 1, 2], "g": ["a", "b", "a"]})
    ordered = batch_from_frame(frame, _declare(schema, ("k",), order_by=("g",)))
    assert ordered.table.column("k").to_pylist() == [2, 3, 1]
    assert ordered.digest == batch_from_frame(frame, _declare(schema, ("k",))).digest


def test_changed_values_change_the_digest(batch: Batch) -> None:
    for column, value in (("cases", 9), ("rate", 0.1 + 2**-56), ("region", "2"), ("open", False)):
        frame = _frame()
        frame.loc[2, column] = value
        assert batch_from_frame(frame, _declare()).digest != batch.digest


def test_files_are_written_the_same_and_load_as_they_were(batch: Batch, tmp_path: Path) -> None:
    write_batch(batch, tmp_path / "a.parquet")
    write_batch(batch_from_frame(_frame(), _declare()), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    loaded = load_batch(tmp_path / "a.parquet", _declare())
    assert loaded.table.equals(batch.table)
    assert (loaded.digest, loaded.key) == (batch.digest, batch.key)
    assert loaded.table.schema.metadata is None
    assert read_batch(tmp_path / "a.parquet", _declare()).digest == batch.digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.parquet", "b.parquet", "week.csv"]


def test_an_archived_csv_loads_too(batch: Batch, tmp_path: Path) -> None:
    assert load_batch(tmp_path / "week.csv", _declare()).digest == batch.digest


def test_a_failed_write_leaves_nothing(batch: Batch, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_batch(batch, tmp_path / "nowhere" / "a.parquet")
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"):
        write_batch(batch, tmp_path / "taken")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken", "week.csv"]


def test_loading_neither_parses_nor_checks_again(tmp_path: Path) -> None:
    parsed = pandera.DataFrameSchema(
        {"k": pandera.Column(int), "x": pandera.Column(float, parsers=pandera.Parser(lambda s: s + 1))}
    )
    first = batch_from_frame(pd.DataFrame({"k": [1], "x": [0.0]}), _declare(parsed, ("k",)))
    assert first.table.column("x").to_pylist() == [1.0]
    write_batch(first, tmp_path / "a.parquet")
    assert load_batch(tmp_path / "a.parquet", _declare(parsed, ("k",))).digest == first.digest


def test_a_changed_file_is_not_loaded(batch: Batch, tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_batch(batch, path)
    table = pq.read_table(path)
    column = pa.chunked_array([pa.array([1, 3, 8], pa.int32())])
    pq.write_table(table.set_column(2, table.schema.field(2), column), path)
    with pytest.raises(LedgerCorrupt, match=batch.digest):
        load_batch(path, _declare())
    with pytest.raises(BatchUnreadable, match="no such file"):
        load_batch(tmp_path / "gone.parquet", _declare())


def test_repeated_row_keys_are_refused_with_an_example(tmp_path: Path) -> None:
    path = tmp_path / "week.csv"
    path.write_text(CSV + "007,2020-01-23,3,-0.0,,\n02,2020-01-23,1,,,\n02,2020-01-23,2,,,\n")
    with pytest.raises(BatchRefused) as caught:
        read_batch(path, _declare())
    text = str(caught.value)
    assert "2 repeated, for example day=2020-01-23, region='007' in 2 rows" in text
    assert text.startswith("week.csv was refused: row keys are repeated.")


@pytest.mark.parametrize("gap", [None, float("nan")])
def test_missing_values_in_the_key_are_refused(gap: float | None) -> None:
    table = pa.table({"k": pa.array([1.0, gap, 2.0])})
    schema = pa.schema([("k", pa.float64())])
    with pytest.raises(BatchRefused, match=r"'k' has missing values.*row 2\."):
        batch_from_frame(table.to_pandas(types_mapper=pd.ArrowDtype), _declare(schema, ("k",)))


def test_a_key_of_any_name() -> None:
    schema = pa.schema([("count_all", pa.int64()), ("key 0", pa.int64())])
    frame = pd.DataFrame({"count_all": [1, 1], "key 0": [1, 2]})
    assert batch_from_frame(frame, _declare(schema, ("count_all", "key 0"))).rows == 2
    with pytest.raises(BatchRefused, match="count_all=1 in 2 rows"):
        batch_from_frame(frame, _declare(schema, ("count_all",)))


def test_minus_zero_is_the_same_key_as_zero() -> None:
    frame, schema = pd.DataFrame({"k": [0.0, -0.0]}), pa.schema([("k", pa.float64())])
    with pytest.raises(BatchRefused, match="1 repeated"):
        batch_from_frame(frame, _declare(schema, ("k",)))


def test_undeclared_key_and_order_columns_are_a_declaration_error() -> None:
    frame = pd.DataFrame({"k": [1]})
    schema = pa.schema([("k", pa.int64())])
    with pytest.raises(DeclarationRefused, match="'other'"):
        batch_from_frame(frame, _declare(schema, ("other",)))
    with pytest.raises(DeclarationRefused, match="'other'"):
        batch_from_frame(frame, _declare(schema, ("k",), order_by=("other",)))


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"k": pd.Series([], dtype=int)}),
        pd.DataFrame({0: [1]}),
        pd.DataFrame([[1, 2]], columns=["k", "k"]),
        pd.DataFrame({"k": [1, "a"]}),
        pd.DataFrame({"k": [object()]}),
        pd.DataFrame({"k": [[1]]}),
        pd.DataFrame({"k": [{"a": 1}]}),
        pd.DataFrame({"k": pd.period_range("2020", periods=1, freq="D")}),
        pd.DataFrame({"k": [2**70]}),
    ],
    ids=["empty", "number", "twice", "mixed", "object", "list", "dict", "period", "huge"],
)
def test_frames_that_cannot_be_batches(frame: pd.DataFrame) -> None:
    with pytest.raises(BatchRefused, match=r"^memory was refused: "):
        batch_from_frame(frame, _declare(pa.schema([("k", pa.int64())]), ("k",)))


def test_limits_reach_the_reader(tmp_path: Path) -> None:
    path = tmp_path / "week.csv"
    path.write_text(CSV)
    with pytest.raises(BatchRefused, match="too big"):
        read_batch(path, _declare(), limits=Limits(rows=2))


def test_key_ranges_are_json_and_readable(batch: Batch) -> None:
    ranges = batch.key_ranges()
    assert ranges == {
        "day": ["date:2020-01-22", "date:2020-01-23"],
        "region": ["string:007", "string:02"],
    }
    assert json.loads(json.dumps(ranges)) == ranges


#: A type, a small and a large value, for every type a key can have.
KEYS = [
    (pa.int64(), -9, 10),
    (pa.uint64(), 9, 2**64 - 1),
    (pa.float64(), -1.5, 1e300),
    (pa.string(), "", "z:é"),
    (pa.binary(), b"\x00", b"\xff"),
    (pa.bool_(), False, True),
    (pa.date32(), dt.date(1, 1, 1), dt.date(9999, 1, 1)),
    (pa.timestamp("ns"), -1, 10**18 + 1),
    (pa.timestamp("s", "UTC"), -(10**11), 10**12),
    (pa.time64("us"), dt.time(9), dt.time(10)),
    (pa.duration("ms"), -1, 1),
    (pa.decimal128(20, 3), Decimal("-10.5"), Decimal("9.125")),
]


def _keyed(kind: pa.DataType, *values: Any) -> Batch:
    frame = pa.table({"k": pa.array(values, kind)}).to_pandas(types_mapper=pd.ArrowDtype)
    return batch_from_frame(frame, _declare(pa.schema([("k", kind)]), ("k",)))


@pytest.mark.parametrize(("kind", "low", "high"), KEYS, ids=str)
def test_ranges_order_as_the_column_does(kind: pa.DataType, low: Any, high: Any) -> None:
    small, large = _keyed(kind, low).key_ranges(), _keyed(kind, high).key_ranges()
    both = _keyed(kind, high, low).key_ranges()
    assert both == {"k": [small["k"][0], large["k"][1]]}
    assert ranges_disjoint(small, large)
    assert ranges_disjoint(large, small)
    assert not ranges_disjoint(both, large)
    assert not ranges_disjoint(small, both)


@pytest.mark.parametrize(("kind", "low", "high"), KEYS, ids=str)
def test_every_type_can_be_a_key(kind: pa.DataType, low: Any, high: Any) -> None:
    batch = _keyed(kind, high, low)
    assert batch.table.column("k").cast(kind).equals(pa.chunked_array([pa.array([low, high], kind)]))
    assert shared_keys(batch.table, batch.key, _keyed(kind, high).table).num_rows == 1
    with pytest.raises(BatchRefused, match="1 repeated"):
        _keyed(kind, high, low, high)


def test_ranges_of_one_unit_and_another_compare() -> None:
    def ranges(kind: pa.DataType, value: int) -> dict[str, list[str]]:
        table = pa.table({"k": pa.array([value], kind)})
        return Batch(table=table, digest="", key=("k",), origin="test").key_ranges()

    assert ranges(pa.timestamp("s"), 1) == ranges(pa.timestamp("ns"), 10**9)
    assert ranges(pa.date32(), 1) == ranges(pa.date64(), 86_400_000)
    assert not ranges_disjoint(ranges(pa.int64(), 1), ranges(pa.timestamp("s"), 5))


def test_numbers_are_not_compared_as_text() -> None:
    assert ranges_disjoint(_ints([9]).key_ranges(), _ints([10, 11]).key_ranges())
    assert not ranges_disjoint(_ints([9, 100]).key_ranges(), _ints([10, 11]).key_ranges())


@given(st.sets(st.integers(-5, 5), min_size=1), st.sets(st.integers(-5, 5), min_size=1))
def test_shared_keys_are_the_intersection(mine: set[int], theirs: set[int]) -> None:
    a, b = _ints(sorted(mine)), _ints(sorted(theirs))
    shared = shared_keys(a.table, a.key, b.table).column("k").to_pylist()
    assert shared == sorted(mine & theirs)
    if ranges_disjoint(a.key_ranges(), b.key_ranges()):
        assert shared == []


def test_shared_keys_compare_the_whole_key(batch: Batch) -> None:
    other = pa.table({
        "region": pa.array(["02", "02", "007", "02"]).dictionary_encode(),
        "day": ["2020-01-22", "2020-01-22", "2020-01-22", "2020-01-24"],
        "note": ["a", "b", "c", "d"],
    })  # fmt: skip
    shared = shared_keys(batch.table, batch.key, other)
    assert shared.to_pylist() == [{"day": dt.date(2020, 1, 22), "region": "02"}]
    assert shared_keys(batch.table, batch.key, batch.table).num_rows == 3
    assert shared_keys(batch.table, batch.key, batch.table.slice(0, 0)).num_rows == 0


def test_shared_keys_of_floats() -> None:
    schema = pa.schema([("k", pa.float64())])
    batch = batch_from_frame(pd.DataFrame({"k": [-0.0, 1.0]}), _declare(schema, ("k",)))
    assert shared_keys(batch.table, batch.key, pa.table({"k": [0.0, 2.0]})).num_rows == 1


def test_shared_keys_need_the_key_in_both(batch: Batch) -> None:
    with pytest.raises(BatchRefused, match="'region'"):
        shared_keys(batch.table, batch.key, batch.table.drop_columns("region"))
    with pytest.raises(BatchRefused, match="'region'"):
        shared_keys(batch.table, batch.key, pa.table({"day": ["2020-01-22"], "region": [7]}))


def test_pandera_declaration_end_to_end(tmp_path: Path) -> None:
    schema = pandera.DataFrameSchema(
        {"day": pandera.Column(pandera.Date), "region": pandera.Column(str), "cases": pandera.Column(int)},
        strict="filter",
    )
    path = tmp_path / "week.csv"
    path.write_text("region,day,cases,note\n007,2020-01-22,3,x\n")
    batch = read_batch(path, _declare(schema))
    assert batch.table.column_names == ["day", "region", "cases"]
    write_batch(batch, tmp_path / "a.parquet")
    assert load_batch(tmp_path / "a.parquet", _declare(schema)).digest == batch.digest
    path.write_text("region,day,cases\n007,2020-01-22,3\n008,2020-01-22,\n")
    with pytest.raises(BatchRefused, match=r"^week\.csv was refused: .*'cases' in 1 row \(row 2\)"):
        read_batch(path, _declare(schema))
