"""Reading CSV and Parquet files that nobody vouches for.

The format is chosen by the extension and checked by the content. Sizes are limited before anything
is decoded, so a small file that unpacks to a huge table is refused. Every way of being unreadable
is one `BatchUnreadable`; that a disk or a permission kept the bytes back says nothing about them, and is
`FileUnavailable`.

CSV dialect: UTF-8 with or without byte order mark, comma, one header line, quotes doubled inside
quoted values, line feeds allowed inside quotes, empty lines skipped. An empty field is null, a
quoted empty field (``""``) is the empty text, ``NaN`` is the float NaN.
"""

from __future__ import annotations

import codecs
import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from lindley.batch.formats import EXTENSIONS, PARQUET_MAGIC, shown_name
from lindley.batch.schema import BatchSchema, listed
from lindley.errors import BatchRefused, BatchUnreadable, FileUnavailable

#: The extensions that can become batches, lower case.

#: First bytes of files that people rename to .csv.
_DISGUISES = (
    (PARQUET_MAGIC, "a Parquet file"),
    (b"PK\x03\x04", "a zip archive or a spreadsheet"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"ARROW1", "an Arrow IPC file"),
)
_MEBIBYTE = 2**20


@dataclass(frozen=True)
class Limits:
    """What a file may be at most; the defaults suit a machine with 8 GB of memory.

    Parameters
    ----------
    file_bytes
        Size of the file, in bytes.
    rows, columns
        Size of the table.
    uncompressed_bytes
        Size of the table in memory, in bytes, as the file states it and as it turns out.
    """

    file_bytes: int = 512 * _MEBIBYTE
    rows: int = 10_000_000
    columns: int = 1_000
    uncompressed_bytes: int = 1024 * _MEBIBYTE


def read_table(path: Path, schema: BatchSchema, limits: Limits | None = None) -> pa.Table:
    """Read a CSV or Parquet file as an Arrow table, not yet cast to the schema.

    Declared columns of a CSV file are read as text, so that the cast sees what the file says ("007"
    stays "007"); columns whose type the schema leaves open are inferred.

    Parameters
    ----------
    path
        The file.
    schema
        The declared schema: missing and unexpected columns are refused before the values are read.
    limits
        Bounds on what is read.

    Raises
    ------
    BatchUnreadable
        If there is no such file, or its bytes are not a table.
    BatchRefused
        If it has no rows, exceeds a limit, or has other columns than the schema declares.
    FileUnavailable
        If the operating system does not give its bytes.
    """
    path, limits = Path(path), limits or Limits()
    extension = path.suffix.lower()
    if extension not in EXTENSIONS:
        raise BatchUnreadable(
            f"{shown_name(path)} has an extension that cannot be read",
            expected="a file that ends in .csv or .parquet",
            found=repr(extension) if extension else "no extension",
            todo="export the data as CSV or Parquet",
        )
    data = _bytes_of(path, limits)
    name = shown_name(path)
    table = (_read_csv if extension == ".csv" else _read_parquet)(name, data, schema, limits)
    if table.num_rows == 0:
        raise BatchRefused(
            f"{name} has no rows",
            expected="at least one row below the header",
            found=f"the columns {listed(table.column_names)} and nothing else",
            todo="wait for data, or drop a file that has some",
        )
    return table


def _bytes_of(path: Path, limits: Limits) -> bytes:
    """Return the file's bytes after the checks that need no parsing."""
    name = shown_name(path)
    try:
        if not path.is_file():
            raise BatchUnreadable(
                f"{name} cannot be read",
                expected="a CSV or Parquet file",
                found="a folder" if path.is_dir() else "no such file",
                todo="give the path of one file",
            )
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limits.file_bytes:
                raise _too_big(name, "bytes in the file", limits.file_bytes, size)
            data = file.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:  # since it was looked at
        raise BatchUnreadable(
            f"{name} cannot be read",
            expected="a CSV or Parquet file",
            found=error.strerror or str(error),
            todo="give the path of one file",
        ) from error
    except OSError as error:
        raise FileUnavailable(
            f"{name} could not be read",
            error,
            todo="check its permissions and its disk; a file that landed stays, and its chain waits for it",
        ) from error
    if not data:
        raise BatchUnreadable(
            f"{name} is empty",
            expected="a table with at least one row",
            found="0 bytes",
            todo="check what wrote it; it may have been cut off",
        )
    return data


def _too_big(name: str, what: str, limit: int, found: object) -> BatchRefused:
    return BatchRefused(
        f"{name} is too big",
        expected=f"at most {limit:,} {what}",
        found=f"{found:,}" if isinstance(found, int) else str(found),
        todo="cut it into smaller batches, or raise the limit (lindley.batch.readers.Limits)",
    )


def _read_csv(name: str, data: bytes, schema: BatchSchema, limits: Limits) -> pa.Table:
    _check_text(name, data)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    # Serial reading: errors then state the row they are in.
    read = pyarrow.csv.ReadOptions(use_threads=False)
    try:
        with pyarrow.csv.open_csv(io.BytesIO(data), read, parse) as stream:
            header = stream.schema.names
        if len(header) > limits.columns:
            raise _too_big(name, "columns", limits.columns, len(header))
        _check_separator(name, header)
        columns = schema.columns(header)
        convert = pyarrow.csv.ConvertOptions(
            column_types={column.name: pa.string() for column in columns if column.type is not None},
            include_columns=[column.name for column in columns],
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        table = pyarrow.csv.read_csv(io.BytesIO(data), read, parse, convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise BatchUnreadable(
            f"{name} cannot be read as CSV",
            expected="comma-separated values with the same number of fields in every row",
            found=str(error).removeprefix("CSV parse error: ")[:300],
            todo="correct that row",
        ) from error
    if table.num_rows > limits.rows:
        raise _too_big(name, "rows", limits.rows, table.num_rows)
    return table


def _check_text(name: str, data: bytes) -> None:
    """Refuse bytes that are not UTF-8 text, saying where and what to do."""
    for magic, kind in _DISGUISES:
        if data.startswith(magic):
            raise BatchUnreadable(
                f"{name} is not a CSV file",
                expected="comma-separated text",
                found=kind,
                todo="name the file by what it is, or export it as CSV",
            )
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _not_utf8(name, "text in UTF-16")
    bad = _first_undecodable(data)
    if bad is not None:
        line = data.count(b"\n", 0, bad) + 1
        raise _not_utf8(name, f"byte 0x{data[bad]:02x} at position {bad + 1:,}, in line {line:,}")
    if b"\0" in data:
        raise _not_utf8(name, f"a zero byte at position {data.index(0) + 1:,}")
    if data.count(b'"') % 2:
        raise BatchUnreadable(
            f"{name} cannot be read as CSV",
            expected="every quoted value to end with a quote",
            found="an odd number of quotes; the file may have been cut off",
            todo='write the file again, with " doubled inside quoted values',
        )


def _not_utf8(name: str, found: str) -> BatchUnreadable:
    return BatchUnreadable(
        f"{name} is not text in UTF-8",
        expected="a CSV file in UTF-8",
        found=found,
        todo="save or export the file as UTF-8 (spreadsheets call it 'CSV UTF-8')",
    )


def _first_undecodable(data: bytes) -> int | None:
    """Return the position of the first byte that is not UTF-8, in bounded memory."""
    start = 0
    while start < len(data):
        block = data[start : start + _MEBIBYTE]
        try:
            _, used = codecs.utf_8_decode(block, "strict", start + len(block) == len(data))
        except UnicodeDecodeError as error:
            return start + error.start
        start += used
    return None


def _check_separator(name: str, header: list[str]) -> None:
    """Refuse a one-column header that only another separator explains."""
    if len(header) != 1:
        return
    for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
        if separator in header[0]:
            raise BatchUnreadable(
                f"{name} is not separated by commas",
                expected="comma-separated values",
                found=f"one column named {header[0]!r:.80}, so probably {word}",
                todo="export the file with commas",
            )


def _read_parquet(name: str, data: bytes, schema: BatchSchema, limits: Limits) -> pa.Table:
    if not data.startswith(PARQUET_MAGIC):
        raise BatchUnreadable(
            f"{name} is not a Parquet file",
            expected="a file that begins and ends with PAR1",
            found=f"a file that begins with {data[:4]!r}",
            todo="name the file by what it is, or export it as Parquet",
        )
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        _check_stated_size(name, file.metadata, limits)
        names = [name for name in file.schema_arrow.names if not _is_index(name, file.schema_arrow)]
        wanted = [column.name for column in schema.columns(names)]
        batches = list(_measured(name, data, file.schema_arrow, wanted, limits))
        if not batches:
            return file.schema_arrow.empty_table().select(wanted)
        return pa.Table.from_batches(batches)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BatchUnreadable(
            f"{name} cannot be read as Parquet",
            expected="a complete Parquet file that begins and ends with PAR1",
            found=" ".join(str(error).split())[:300],
            todo="write or copy the file again; it is damaged or was cut off",
        ) from error


def _measured(
    name: str, data: bytes, schema: pa.Schema, columns: list[str], limits: Limits
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file, and refuse the rest once they take too much memory."""
    # Text stays dictionary encoded while it is measured: a short dictionary can repeat a long value
    # millions of times.
    texts = [field.name for field in schema if _is_text(field.type)]
    file = pq.ParquetFile(io.BytesIO(data), read_dictionary=texts, page_checksum_verification=True)
    size = 0
    for batch in file.iter_batches(columns=columns):
        size += sum(_decoded_bytes(column) for column in batch.columns)
        if size > limits.uncompressed_bytes:
            raise _too_big(name, "bytes in memory", limits.uncompressed_bytes, "more")
        yield batch


def read_stored(path: Path, limits: Limits | None = None) -> pa.Table:
    """Return the rows of a Parquet file of the ledger as they were stored.

    Raises
    ------
    BatchRefused
        If it exceeds a limit: somebody put another file in its place.
    """
    name, limits, data = shown_name(path), limits or Limits(), path.read_bytes()
    file = pq.ParquetFile(io.BytesIO(data))
    _check_stated_size(name, file.metadata, limits)
    texts = [field.name for field in file.schema_arrow if _is_text(_value_type(field.type))]
    for _ in _measured(name, data, file.schema_arrow, texts, limits):
        pass
    return pq.read_table(io.BytesIO(data))


def _check_stated_size(name: str, metadata: pq.FileMetaData, limits: Limits) -> None:
    """Refuse what the file's own metadata states to be too big, before any page is read."""
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    # A run of equal values is a few bytes of the file, whatever its length: numbers count as they decode.
    kinds = [field.type for field in metadata.schema.to_arrow_schema()]
    width = sum(kind.bit_width for kind in kinds if pa.types.is_primitive(kind)) / 8
    for what, limit, found in (
        ("columns", limits.columns, metadata.num_columns),
        ("rows", limits.rows, metadata.num_rows),
        ("bytes in memory", limits.uncompressed_bytes, sum(group.total_byte_size for group in groups)),
        ("bytes in memory", limits.uncompressed_bytes, int(width * metadata.num_rows)),
    ):
        if found > limit:
            raise _too_big(name, what, limit, found)


def _is_index(name: str, schema: pa.Schema) -> bool:
    """Return whether the column is a pandas frame's nameless index, which says nothing about the rows."""
    return b"pandas" in (schema.metadata or {}) and re.fullmatch(r"__index_level_\d+__", name) is not None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind))


def _value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column once its dictionary is undone."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _decoded_bytes(column: pa.Array) -> int:
    """Return the size of the column once its dictionary is undone, without undoing it."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(column.indices)).as_py() or 0
