"""Files as other programs write them: the right value, or a refusal that names the cause.

The files in `files/` are the smallest ones that were once read wrongly or refused without need.
"""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lindley.batch.batch import Batch
from lindley.batch.reading import read_batch
from lindley.errors import BatchRefused, BatchUnreadable
from lindley.model.declaration import BY_POSITION, Declaration

FILES = Path(__file__).with_name("files")
AT = pa.schema([pa.field("at", pa.timestamp("us"), nullable=False), pa.field("y", pa.float64())])
LAB = pa.schema(
    [pa.field("id", pa.int64(), nullable=False), pa.field("lab", pa.string()), ("y", pa.float64())]
)


def declared(schema: Any, key: tuple[str, ...] = BY_POSITION, **options: Any) -> Declaration:
    return Declaration(name="m", build=lambda batch: None, schema=schema, row_key=key, **options)


def read(name: str, schema: Any, **options: Any) -> Batch:
    return read_batch(FILES / name, declared(schema, **options))


def rows(batch: Batch) -> list[dict[str, Any]]:
    return batch.table.to_pylist()


def stored(tmp_path: Path, array: pa.Array, field: pa.Field | None = None) -> Path:
    path = tmp_path / "week.parquet"
    schema = pa.schema([field or pa.field("x", array.type)])
    pq.write_table(pa.table([array], schema=schema), path)
    return path


@pytest.mark.parametrize(
    ("name", "time"),
    [("int96_far.parquet", dt.datetime(9999, 12, 31)), ("int96_old.parquet", dt.datetime(1600, 5, 1))],
)
def test_int96_beyond_nanoseconds(name: str, time: dt.datetime) -> None:
    assert time in [row["at"] for row in rows(read(name, AT))]
    with pytest.raises(BatchRefused, match=r"timestamp\[ns\]"):
        read(name, pa.schema([("at", pa.timestamp("ns")), ("y", pa.float64())]))


def test_int96_keeps_nanoseconds_or_refuses_them(tmp_path: Path) -> None:
    exact = pd.Timestamp("2024-01-01T06:00:00.123456789")
    path, schema = tmp_path / "week.parquet", pa.schema([("at", pa.timestamp("ns"))])
    pq.write_table(
        pa.table({"at": pa.array([exact, None], pa.timestamp("ns"))}),
        path,
        use_deprecated_int96_timestamps=True,
    )
    assert rows(read_batch(path, declared(schema))) == [{"at": exact}, {"at": None}]
    # A nanosecond beside a far time cannot be read in either unit. The bytes of INT96 are nanoseconds of the
    # day and the Julian day, so a far one is made of a near one.
    pq.write_table(
        pa.table({"at": pa.array([pd.Timestamp("2020-01-01T00:00:00.123456789")], pa.timestamp("ns"))}),
        path,
        use_deprecated_int96_timestamps=True,
        use_dictionary=False,
        compression="none",
    )
    day = (2458850).to_bytes(4, "little")  # the Julian day of 2020-01-01
    data = path.read_bytes()
    assert data.count(day) >= 1
    path.write_bytes(data.replace(day, (5373484).to_bytes(4, "little")))
    with pytest.raises(BatchRefused, match="cannot be read exactly"):
        read_batch(path, declared(pa.schema([("at", pa.timestamp("us"))])))


@pytest.mark.parametrize("name", ["duck_v2.parquet", "pa_delta_byte_array.parquet"])
def test_text_in_delta_encodings(name: str) -> None:
    duck = [f"lab{number}" for number in range(1, 20)]
    labels = duck if name.startswith("duck") else ["alpha", "beta", "gamma"]
    assert [row["lab"] for row in rows(read(name, LAB))][: len(labels)] == labels


def test_delta_text_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    from lindley.batch.limits import Limits

    path = tmp_path / "week.parquet"
    table = pa.table({"lab": ["x" * 100_000] * 2000})
    pq.write_table(table, path, use_dictionary=False, column_encoding={"lab": "DELTA_BYTE_ARRAY"})
    assert path.stat().st_size < 2**20
    with pytest.raises(BatchRefused, match="too big"):
        read_batch(path, declared(pa.schema([("lab", pa.string())])), limits=Limits(uncompressed_bytes=2**24))


@pytest.mark.parametrize("name", ["pa_f16.parquet", "pl_f16.parquet"])
def test_half_floats_are_widened_exactly(name: str) -> None:
    assert [row["y"] for row in rows(read(name, LAB))] == [1.0, 2.0]


@pytest.mark.parametrize("kind", ["string", "binary"])
@pytest.mark.parametrize("name", ["duck_uuid.parquet", "pa_uuid.parquet"])
def test_uuids_are_text_or_bytes(name: str, kind: str) -> None:
    found = rows(read(name, pa.schema([("id", getattr(pa, kind)()), ("y", pa.float64())])))[0]["id"]
    first = "6b4f0c9e-0001-4000-8000-000000000001" if "duck" in name else str(UUID(int=1))
    assert found == (first if kind == "string" else UUID(first).bytes)


@pytest.mark.parametrize("registered", [True, False], ids=["registered", "by metadata"])
def test_extension_types_become_flat_values(tmp_path: Path, registered: bool) -> None:
    period = pd.Series(pd.period_range("2024-02", periods=2, freq="M"))
    array = pa.array(period)
    field = pa.field("x", array.type)
    if not registered:
        array = array.storage
        named = {
            "ARROW:extension:name": "pandas.period",
            "ARROW:extension:metadata": json.dumps({"freq": "M"}),
        }
        field = pa.field("x", array.type, metadata=named)
    path = stored(tmp_path, array, field)
    starts = rows(read_batch(path, declared(pa.schema([("x", pa.date32())]))))
    assert [row["x"] for row in starts] == [dt.date(2024, 2, 1), dt.date(2024, 3, 1)]
    assert rows(read_batch(path, declared(pa.schema([("x", pa.string())]))))[0] == {"x": "2024-02"}


def test_json_bool8_and_intervals(tmp_path: Path) -> None:
    text = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": 1}', None]))
    wanted = declared(pa.schema([("x", pa.string())]))
    assert {"x": '{"a": 1}'} in rows(read_batch(stored(tmp_path, text), wanted))
    flags = pa.ExtensionArray.from_storage(pa.bool8(), pa.array([1, 0, None], pa.int8()))
    found = rows(read_batch(stored(tmp_path, flags), declared(pa.schema([("x", pa.bool_())]))))
    assert sorted(found, key=str) == [{"x": False}, {"x": None}, {"x": True}]
    intervals = pa.array(pd.Series(pd.interval_range(0, 2)))
    assert rows(read_batch(stored(tmp_path, intervals), wanted))[0] == {"x": "(0, 1]"}


def test_quotes_escaped_by_a_backslash_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BatchUnreadable, match="no escape by a backslash"):
        read("escape.csv", LAB)
    (tmp_path / "bare.csv").write_text('id,lab,y\n1,say \\"hi\\" now,1\n')
    with pytest.raises(BatchUnreadable, match="a quote after a backslash, in line 2"):
        read_batch(tmp_path / "bare.csv", declared(LAB))
    (tmp_path / "path.csv").write_text('id,lab,y\n1,"C:\\dir\\",1\n')
    assert rows(read_batch(tmp_path / "path.csv", declared(LAB)))[0]["lab"] == "C:\\dir\\"


def test_inch_marks_are_text() -> None:
    assert [row["lab"] for row in rows(read("inch1.csv", LAB))] == ['5" pipe', "b"]
    assert [row["lab"] for row in rows(read("inch2.csv", LAB))] == ['5" pipe', '7" pipe']


def test_semicolons_with_a_decimal_comma_are_named() -> None:
    with pytest.raises(BatchUnreadable, match=r"semicolons.*decimal points instead of commas"):
        read("semi.csv", LAB)


def test_zeros_behind_a_second_are_exact() -> None:
    assert rows(read("ts_net7.csv", AT))[0]["at"] == dt.datetime(2024, 3, 1, 6)
    assert rows(read("ts_ns0.csv", AT))[0]["at"] == dt.datetime(2024, 3, 1, 6, 0, 0, 123456)
    day = pa.schema([("d", pa.date32()), ("y", pa.float64())])
    assert rows(read("date_sqlserver.csv", day))[0]["d"] == dt.date(2024, 3, 1)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("2024-03-01T06:00:00.1230Z", pa.timestamp("ms", "UTC")),
        ("2024-03-01T08:00:00.123000+02:00", pa.timestamp("ms", "UTC")),
        ("06:00:00.1000", pa.time32("ms")),
    ],
)
def test_zeros_before_a_zone(tmp_path: Path, text: str, kind: pa.DataType) -> None:
    path = tmp_path / "week.csv"
    path.write_text(f"x\n{text}\n")
    wanted = declared(pa.schema([("x", kind)]))
    assert rows(read_batch(path, wanted))[0]["x"].microsecond in (123_000, 100_000)
    path.write_text(f"x\n{text.replace('.1', '.12345')}\n")
    with pytest.raises(BatchRefused, match="without loss"):
        read_batch(path, wanted)


@pytest.mark.parametrize(
    "name",
    ["fp_index.parquet", "pl_rewrite_index.parquet", "duck_rewrite_index.parquet", "pd_default.csv"],
)
def test_an_index_without_a_name_is_left_out(name: str) -> None:
    assert [row["y"] for row in rows(read(name, AT))] == [1.0, 2.0]


def test_a_first_column_without_a_name_that_holds_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "week.csv"
    path.write_text(",id,lab,y\n5,1,a,1\n7,2,b,2\n")
    with pytest.raises(BatchRefused, match="unexpected: ''"):
        read_batch(path, declared(LAB))


def test_a_declared_index_is_data() -> None:
    named = pa.schema([("index", pa.int64()), *AT])
    assert [row["index"] for row in rows(read("fp_index.parquet", named))] == [5, 9]


def test_a_category_may_have_nulls_where_pandera_allows_them() -> None:
    column = pandera.Column("category", nullable=True)
    schema = pandera.DataFrameSchema({"id": pandera.Column(int), "lab": column, "y": pandera.Column(float)})
    assert [row["lab"] for row in rows(read("catnull.csv", schema))] == ["a", None]


def test_missing_values_as_declared() -> None:
    assert [row["y"] for row in rows(read("r_na.csv", LAB, missing=("NA",)))] == [1.5, None]
    assert [row["lab"] for row in rows(read("r_na.csv", LAB, missing=("NA",)))] == ["a", "NA"]  # quoted: text
    assert [row["y"] for row in rows(read("sql_null.csv", LAB, missing=("NULL",)))] == [1.5, None]
    assert [row["y"] for row in rows(read("pl_quote_null.csv", LAB, missing=("",)))] == [1.0, None, 2.0]
    with pytest.raises(BatchRefused, match=r"declare missing=\('NA',\)"):
        read("r_na.csv", LAB)


@pytest.mark.parametrize("declared_as", ["caf\u00e9", "cafe\u0301"])
def test_both_spellings_of_an_accent_are_one_name(declared_as: str) -> None:
    schema = pa.schema([("id", pa.int64()), (declared_as, pa.string()), ("y", pa.float64())])
    assert rows(read("nfd.csv", schema))[0][declared_as] == "a"


@pytest.mark.parametrize(
    ("name", "cause"), [("enc_True.parquet", "is encrypted"), ("pl_i128.parquet", "the file is not damaged")]
)
def test_what_arrow_cannot_read_is_not_called_damaged(name: str, cause: str) -> None:
    with pytest.raises(BatchUnreadable, match=cause):
        read(name, LAB)


class TestFolders:
    def write(self, folder: Path) -> Path:
        frame = pd.DataFrame(
            {"region": ["a/b", "a/b", None], "year": [2023, 2024, 2024], "y": [1.0, 2.0, 3.0]}
        )
        table = pa.Table.from_pandas(frame, preserve_index=False)
        pq.write_to_dataset(table, folder, partition_cols=["region", "year"])
        (folder / "_SUCCESS").touch()
        return folder

    SCHEMA = pa.schema([("year", pa.int64()), ("region", pa.string()), ("y", pa.float64())])

    def test_partitions_are_columns(self, tmp_path: Path) -> None:
        found = rows(read_batch(self.write(tmp_path / "week"), declared(self.SCHEMA)))
        assert found == [
            {"year": 2023, "region": "a/b", "y": 1.0},
            {"year": 2024, "region": "a/b", "y": 2.0},
            {"year": 2024, "region": None, "y": 3.0},
        ]

    def test_files_that_disagree_are_refused(self, tmp_path: Path) -> None:
        pq.write_table(pa.table({"y": [1]}), tmp_path / "a.parquet")
        pq.write_table(pa.table({"y": ["2"]}), tmp_path / "b.parquet")
        with pytest.raises(BatchUnreadable, match="do not fit together"):
            read_batch(tmp_path, declared(pa.schema([("y", pa.float64())])))

    def test_limits_count_all_files(self, tmp_path: Path) -> None:
        from lindley.batch.limits import Limits

        folder = self.write(tmp_path / "week")
        sizes = [path.stat().st_size for path in folder.rglob("*.parquet")]
        with pytest.raises(BatchRefused, match="too big"):
            read_batch(folder, declared(self.SCHEMA), limits=Limits(file_bytes=max(sizes) + 1))


def test_nan_in_half_floats_stays(tmp_path: Path) -> None:
    path = stored(tmp_path, pa.array(np.array([np.nan, 0.5], np.float16)))
    found = read_batch(path, declared(pa.schema([("x", pa.float64())]))).table.column("x").to_pylist()
    assert sorted(found, key=str) == [0.5, pytest.approx(np.nan, nan_ok=True)]
