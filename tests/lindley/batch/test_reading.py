"""Readers: every way a file can be unreadable is one paragraph; sizes are refused before decoding."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lindley.batch import reading
from lindley.batch.batch import as_schema
from lindley.batch.expected import Expected
from lindley.batch.limits import Limits
from lindley.batch.parquet_format import read_stored
from lindley.batch.reading import read_table
from lindley.errors import BatchRefused, BatchUnreadable, FileUnavailable
from lindley.names import shown_name

SCHEMA = as_schema(pa.schema([("code", pa.string()), ("n", pa.int64())]))
GOOD = "code,n\n007,1\n08,2\n"


def _refused(path: Path, kind: type[BatchRefused] = BatchUnreadable, limits: Limits | None = None) -> str:
    with pytest.raises(kind) as caught:
        read_table(path, Expected(schema=SCHEMA, limits=limits or Limits()))
    text = str(caught.value)
    assert "\n" not in text
    assert str(path.parent) not in text
    assert caught.value.todo
    return text


def _csv(tmp_path: Path, data: bytes | str, name: str = "week.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def _parquet(tmp_path: Path, table: pa.Table, **options: object) -> Path:
    path = tmp_path / "week.parquet"
    pq.write_table(table, path, **options)
    return path


@pytest.mark.parametrize(
    "data",
    [
        GOOD,
        "\ufeff" + GOOD,
        GOOD.replace("\n", "\r\n"),
        GOOD.rstrip(),
        "\n" + GOOD + "\n\n",
        '"code","n"\n"007","1"\n"08","2"\n',
        "n,code\n1,007\n2,08\n",
    ],
)
def test_csv_keeps_the_text_of_declared_columns(tmp_path: Path, data: str) -> None:
    table = read_table(_csv(tmp_path, data, "Week.CSV"), Expected(schema=SCHEMA))
    assert table.to_pydict() == {"code": ["007", "08"], "n": ["1", "2"]}


def test_csv_empty_fields_and_quotes(tmp_path: Path) -> None:
    table = read_table(
        _csv(tmp_path, 'code,n\n,1\n"",2\n"a ""b""\n,c",\nNaN,nan\nnull,NA\n'), Expected(schema=SCHEMA)
    )
    assert table.column("code").to_pylist() == [None, "", 'a "b"\n,c', "NaN", "null"]
    assert table.column("n").to_pylist() == ["1", "2", None, "nan", "NA"]


def test_csv_columns_of_open_type_are_inferred(tmp_path: Path) -> None:
    import pandera.pandas as pandera

    schema = as_schema(pandera.DataFrameSchema({"code": pandera.Column(None), "n": pandera.Column(int)}))
    table = read_table(_csv(tmp_path, "code,n\n1.5,1\nNaN,2\n"), Expected(schema=schema))
    assert table.schema.types == [pa.float64(), pa.string()]


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert "no such file" in _refused(tmp_path / "absent.csv")
    folder = tmp_path / "folder.csv"
    folder.mkdir()
    assert "has no Parquet file" in _refused(folder)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EMFILE, errno.EACCES])
def test_bytes_that_are_kept_back_are_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    path = _csv(tmp_path, GOOD)

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(reading, "without_waiting", refuse)
    with pytest.raises(FileUnavailable, match="its chain waits for it") as caught:
        read_table(path, Expected(schema=SCHEMA))
    assert os.strerror(number) in str(caught.value)
    assert caught.value.transient == (number != errno.EACCES)


def test_a_file_that_goes_while_it_is_opened_is_unreadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _csv(tmp_path, GOOD)
    real = reading.without_waiting

    def late(path: str, flags: int) -> int:
        Path(path).unlink()
        return real(path, flags)

    monkeypatch.setattr(reading, "without_waiting", late)
    assert "no such file" in _refused(path)


def test_a_pipe_that_takes_the_name_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "week.csv")
    assert "a pipe or a device" in _refused(tmp_path / "week.csv")
    (tmp_path / "zero.csv").symlink_to("/dev/zero")
    assert "a pipe or a device" in _refused(tmp_path / "zero.csv")


def test_a_file_that_grows_while_it_is_read_is_left_for_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = _csv(tmp_path, GOOD), os.fstat

    def grown(number: int) -> os.stat_result:
        found = real(number)
        with path.open("a") as file:
            file.write("9,9\n")
        return found

    monkeypatch.setattr(os, "fstat", grown)
    with pytest.raises(FileUnavailable, match="it grew while it was read") as caught:
        read_table(path, Expected(schema=SCHEMA))
    assert caught.value.transient


@pytest.mark.parametrize("name", ["week.xlsx", "week", "week.csv.bz2", "week.json"])
def test_other_extensions(tmp_path: Path, name: str) -> None:
    assert ".csv, .csv.gz or .parquet" in _refused(_csv(tmp_path, GOOD, name))


@pytest.mark.parametrize("name", ["week.csv", "week.parquet"])
def test_empty_files(tmp_path: Path, name: str) -> None:
    assert "week" in _refused(_csv(tmp_path, b"", name))
    assert "0 bytes" in _refused(_csv(tmp_path, b"", name))


def test_header_only(tmp_path: Path) -> None:
    assert "has no rows" in _refused(_csv(tmp_path, "code,n\n"), BatchRefused)
    empty = pa.table({"code": pa.array([], pa.string()), "n": pa.array([], pa.int64())})
    assert "has no rows" in _refused(_parquet(tmp_path, empty), BatchRefused)


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("code,n\né,1\nñ,2\n".encode("latin-1"), "byte 0xe9 at position 8, in line 2"),
        (GOOD.encode() * 100_000 + b"\xff,1\n", f"position {100_000 * len(GOOD) + 1:,}, in line 300,001"),
        (GOOD.encode("utf-16"), "UTF-16"),
        (GOOD.encode("utf-16-le"), "a zero byte at position 2"),
        (GOOD.encode() + b"\xc3", "byte 0xc3"),
    ],
)
def test_other_encodings_say_where_and_what_to_do(tmp_path: Path, data: bytes, named: str) -> None:
    text = _refused(_csv(tmp_path, data))
    assert named in text
    assert "UTF-8" in text


def test_a_character_across_two_blocks_is_one_character(tmp_path: Path) -> None:
    rows = "x" * (2**20 - len("code,n\n") - 1)
    table = read_table(_csv(tmp_path, f"code,n\n{rows}é,1\n"), Expected(schema=SCHEMA))
    assert table.column("code").to_pylist() == [rows + "é"]


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"PAR1....PAR1", "a Parquet file"),
        (b"PK\x03\x04....", "spreadsheet"),
        (gzip.compress(GOOD.encode(), mtime=0), "gzip"),
    ],
)
def test_csv_that_is_something_else(tmp_path: Path, data: bytes, named: str) -> None:
    assert named in _refused(_csv(tmp_path, data))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ("code,n\n1,2\n1,2,3\n", "Row #3: Expected 2 columns, got 3"),
        ("code,n\n1,2\n1\n", "Row #3: Expected 2 columns, got 1"),
        ('code,n\n1,2\n"cut of', "a quoted value without an end"),
        ("\n\n", "no header line"),
        ("code;n\n1;2\n", "semicolons"),
        ("code\tn\n1\t2\n", "tabs"),
    ],
)
def test_broken_csv(tmp_path: Path, data: str, named: str) -> None:
    assert named in _refused(_csv(tmp_path, data))


def test_wrong_columns_are_named(tmp_path: Path) -> None:
    text = "missing: 'n'; unexpected: 'm'"
    with pytest.raises(BatchRefused, match=text):
        read_table(_csv(tmp_path, "code,m\n1,2\n"), Expected(schema=SCHEMA))
    with pytest.raises(BatchRefused, match=text):
        read_table(_parquet(tmp_path, pa.table({"code": ["1"], "m": [1]})), Expected(schema=SCHEMA))
    with pytest.raises(BatchRefused, match="repeated: 'n'"):
        read_table(_csv(tmp_path, "code,n,n\n1,2,3\n"), Expected(schema=SCHEMA))


TABLE = pa.table({"code": ["007", None, "a"], "n": [1, 2, 3]})


def test_parquet_of_every_kind(tmp_path: Path) -> None:
    for options in ({}, {"use_dictionary": False}, {"row_group_size": 1}, {"compression": "gzip"}):
        table = read_table(_parquet(tmp_path, TABLE, **options), Expected(schema=SCHEMA))
        assert SCHEMA.conform(table).equals(TABLE)


def test_parquet_from_pandas_with_a_nameless_index(tmp_path: Path) -> None:
    frame = pd.DataFrame({"code": ["a", "b"], "n": [1, 2]}, index=[5, 3])
    frame.to_parquet(tmp_path / "week.parquet")
    assert read_table(tmp_path / "week.parquet", Expected(schema=SCHEMA)).column_names == ["code", "n"]


def test_parquet_that_is_text(tmp_path: Path) -> None:
    assert "not a Parquet file" in _refused(_csv(tmp_path, GOOD, "week.parquet"))


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_truncated_parquet(tmp_path: Path, kept: float) -> None:
    path = _parquet(tmp_path, TABLE)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    assert "cut off" in _refused(path)


def test_parquet_of_magic_only(tmp_path: Path) -> None:
    _refused(_csv(tmp_path, b"PAR1PAR1", "week.parquet"))
    _refused(_csv(tmp_path, b"PAR1" + bytes(100) + b"\x40\x00\x00\x00PAR1", "week.parquet"))


def test_damaged_parquet_page(tmp_path: Path) -> None:
    path = _parquet(tmp_path, TABLE, compression="none", write_page_checksum=True, use_dictionary=False)
    data = bytearray(path.read_bytes())
    value = b"\x03\x00\x00\x00" + b"007"  # its length, then the text; elsewhere the text is only a statistic
    data[data.index(value) + 5] = ord("9")
    path.write_bytes(bytes(data))
    assert "damaged" in _refused(path)


def test_no_byte_flip_of_a_parquet_file_escapes_as_another_error(tmp_path: Path) -> None:
    path = _parquet(tmp_path, TABLE)
    data = path.read_bytes()
    rng = np.random.default_rng(1)
    refused = 0
    for position in rng.choice(len(data), 200, replace=False):
        broken = bytearray(data)
        broken[position] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(broken))
        try:
            read_table(path, Expected(schema=SCHEMA))
        except BatchRefused:
            refused += 1
    assert refused > 0


def test_limits(tmp_path: Path) -> None:
    csv, parquet = _csv(tmp_path, GOOD), _parquet(tmp_path, TABLE)
    for path in (csv, parquet):
        assert "bytes in the file" in _refused(path, BatchRefused, Limits(file_bytes=10))
        assert "rows" in _refused(path, BatchRefused, Limits(rows=1))
        assert "columns" in _refused(path, BatchRefused, Limits(columns=1))
    assert "bytes in memory" in _refused(parquet, BatchRefused, Limits(uncompressed_bytes=10))


def test_a_bomb_is_refused_by_its_stated_size(tmp_path: Path) -> None:
    rows = 3_000_000
    path = _parquet(
        tmp_path,
        pa.table({"code": pa.nulls(rows, pa.string()), "n": np.zeros(rows, np.int64)}),
        compression="zstd", use_dictionary=False,
    )  # fmt: skip
    assert path.stat().st_size < 50_000
    assert "bytes in memory" in _refused(path, BatchRefused, Limits(uncompressed_bytes=10 * 2**20))


def test_a_dictionary_bomb_is_refused_by_its_decoded_size(tmp_path: Path) -> None:
    rows = 200_000
    code = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), ["x" * 100_000])
    path = _parquet(tmp_path, pa.table({"code": code, "n": np.zeros(rows, np.int64)}))
    assert path.stat().st_size < 200_000  # and 20 GB when decoded
    assert "bytes in memory" in _refused(path, BatchRefused)


@pytest.mark.parametrize("encoded", [True, False])
def test_a_dictionary_bomb_in_the_place_of_a_stored_batch_is_refused(tmp_path: Path, encoded: bool) -> None:
    """Whether or not the file states that its text is a dictionary."""
    rows = 200_000
    code = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), ["x" * 100_000])
    path = tmp_path / "batch.parquet"
    pq.write_table(pa.table({"code": code}), path, store_schema=encoded)
    with pytest.raises(BatchRefused, match="bytes in memory"):
        read_stored(path)


def test_a_stored_batch_is_read_as_it_was_stored(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "batch.parquet")
    assert read_stored(tmp_path / "batch.parquet").equals(TABLE)


def test_a_stored_dictionary_of_numbers_is_no_text_to_measure(tmp_path: Path) -> None:
    table = pa.table({"n": pa.array([7, 8, 7]).dictionary_encode()})
    pq.write_table(table, tmp_path / "batch.parquet")
    assert read_stored(tmp_path / "batch.parquet")["n"].to_pylist() == [7, 8, 7]


def test_names_are_shown_on_one_short_line() -> None:
    assert shown_name(Path("/somewhere/week 3.csv")) == "week 3.csv"
    assert shown_name(Path("a\nb\x1b[31m.csv")) == "a\\nb\\x1b[31m.csv"
    assert shown_name(Path("a\udcff.csv")) == "a\\udcff.csv"
    assert len(shown_name(Path("x" * 200 + ".csv"))) == 80
