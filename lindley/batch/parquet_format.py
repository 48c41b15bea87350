"""Reading Parquet files, with their stated size checked while they are decoded."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lindley.batch.limits import Limits, too_big
from lindley.batch.schema import BatchSchema
from lindley.errors import BatchUnreadable
from lindley.names import shown_name


def read_parquet(name: str, data: bytes, schema: BatchSchema, limits: Limits) -> pa.Table:
    """Return the table in the bytes of a Parquet file; see `lindley.batch.formats.Format`."""
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
    """Yield the rows of a Parquet file; refuse it when they take too much memory."""
    # Text stays dictionary encoded while it is measured: a file can repeat a long value of a short
    # dictionary millions of times.
    texts = [field.name for field in schema if _is_text(field.type)]
    file = pq.ParquetFile(io.BytesIO(data), read_dictionary=texts, page_checksum_verification=True)
    size = 0
    for batch in file.iter_batches(columns=columns):
        size += sum(_decoded_bytes(column) for column in batch.columns)
        if size > limits.uncompressed_bytes:
            raise too_big(name, "bytes in memory", limits.uncompressed_bytes, "more")
        yield batch


def read_stored(path: Path, limits: Limits | None = None) -> pa.Table:
    """Return the rows of a Parquet file of the ledger as stored.

    Raises
    ------
    BatchRefused
        If it exceeds a limit: another file has taken its place.
    """
    name, limits, data = shown_name(path), limits or Limits(), path.read_bytes()
    file = pq.ParquetFile(io.BytesIO(data))
    _check_stated_size(name, file.metadata, limits)
    texts = [field.name for field in file.schema_arrow if _is_text(_value_type(field.type))]
    for _ in _measured(name, data, file.schema_arrow, texts, limits):
        pass
    return pq.read_table(io.BytesIO(data))


def _check_stated_size(name: str, metadata: pq.FileMetaData, limits: Limits) -> None:
    """Refuse a file that is too big by its own metadata, before any page is read."""
    groups = (metadata.row_group(index) for index in range(metadata.num_row_groups))
    # A long run of equal values takes a few bytes of the file: numbers count with their decoded size.
    kinds = [field.type for field in metadata.schema.to_arrow_schema()]
    width = sum(kind.bit_width for kind in kinds if pa.types.is_primitive(kind)) / 8
    for what, limit, found in (
        ("columns", limits.columns, metadata.num_columns),
        ("rows", limits.rows, metadata.num_rows),
        ("bytes in memory", limits.uncompressed_bytes, sum(group.total_byte_size for group in groups)),
        ("bytes in memory", limits.uncompressed_bytes, int(width * metadata.num_rows)),
    ):
        if found > limit:
            raise too_big(name, what, limit, found)


def _is_index(name: str, schema: pa.Schema) -> bool:
    """Return whether the column is the nameless index of a pandas frame, which carries no data."""
    return b"pandas" in (schema.metadata or {}) and re.fullmatch(r"__index_level_\d+__", name) is not None


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind))


def _value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of a column's values, also behind a dictionary."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _decoded_bytes(column: pa.Array) -> int:
    """Return the decoded size of a column without decoding it."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.binary_length(column.dictionary).cast(pa.int64())
    return pc.sum(lengths.take(column.indices)).as_py() or 0
