"""Reading Parquet files, with their stated size checked while they are decoded, and folders of them.

Spark, Dask, polars and DuckDB write one table as a folder of files. A folder named ``KEY=VALUE`` adds the
column KEY to the files below it, as in Hive.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lindley.batch.digest import decode
from lindley.batch.expected import Expected
from lindley.batch.limits import Limits, too_big
from lindley.batch.schema import BatchSchema, Column, declared_names, rows_text
from lindley.errors import BatchRefused, BatchUnreadable
from lindley.names import printable, shown_name

#: Hive's name of the null partition.
_NULL = "__HIVE_DEFAULT_PARTITION__"
#: Rows that are decoded at once.
_ROWS = 65_536
#: Beginning of Arrow's message about what it does not implement, whatever the class of the error.
_NOT_IMPLEMENTED = ("Not yet implemented", "NotImplemented", "Support for codec")


def read_parquet(name: str, data: bytes, expected: Expected) -> pa.Table:
    """Return the table in the bytes of a Parquet file; see `lindley.batch.formats.Format`."""
    schema, limits = expected.schema, expected.limits
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        _check_stated_size(name, file.metadata, limits)
        found = file.schema_arrow.names
        spelled = dict(zip(found, declared_names(found, schema), strict=True))
        kept = [each for each in found if not _is_index(each, file.schema_arrow, spelled[each], schema)]
        columns = {column.name for column in schema.columns([spelled[each] for each in kept])}
        wanted = [each for each in kept if spelled[each] in columns]
        batches = list(_measured(name, data, file.schema_arrow, wanted, limits))
        table = pa.Table.from_batches(batches) if batches else file.schema_arrow.empty_table().select(wanted)
        table = _with_exact_times(name, data, file, table)
        names = [spelled[each] for each in table.column_names]
        # Renaming drops the metadata, in which a stored batch states its digest.
        return table.rename_columns(names).replace_schema_metadata(table.schema.metadata)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(name, error) from error


def parquet_blocks(name: str, path: Path, expected: Expected) -> Iterator[pa.Table]:
    """Yield the rows of a Parquet file of any length, as `read_parquet` gives them, a block at a time.

    A file with INT96 timestamps is read as a whole: they are made exact over all of it.
    """
    schema = expected.schema
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        kinds = {file.schema.column(index).physical_type for index in range(len(file.schema))}
        if "INT96" in kinds:
            yield read_parquet(name, path.read_bytes(), expected)
            return
        found = file.schema_arrow.names
        spelled = dict(zip(found, declared_names(found, schema), strict=True))
        kept = [each for each in found if not _is_index(each, file.schema_arrow, spelled[each], schema)]
        columns = {column.name for column in schema.columns([spelled[each] for each in kept])}
        wanted = [each for each in kept if spelled[each] in columns]
        for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
            table = pa.Table.from_batches([batch])
            yield table.rename_columns([spelled[each] for each in table.column_names])
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(name, error) from error


def _unreadable(name: str, error: Exception) -> BatchUnreadable:
    """Return the refusal of a file that Arrow cannot read: damaged, encrypted, or with what Arrow lacks."""
    found = " ".join(str(error).split())[:300]
    if "ncrypt" in found or "ecrypt" in found:
        return BatchUnreadable(
            f"{name} is encrypted",
            expected="a Parquet file without encryption: Lindley has no key",
            found=found,
            todo="decrypt the file before it is dropped",
        )
    if isinstance(error, NotImplementedError) or any(word in found for word in _NOT_IMPLEMENTED):
        return BatchUnreadable(
            f"{name} uses a type or an encoding of Parquet that cannot be read here",
            expected=f"what Arrow {pa.__version__} reads; the file is not damaged",
            found=found,
            todo="write the column with another type or encoding, or export the file as CSV",
        )
    return BatchUnreadable(
        f"{name} cannot be read as Parquet",
        expected="a complete Parquet file that begins and ends with PAR1",
        found=found,
        todo="write or copy the file again; it is damaged or was cut off",
    )


def _measured(
    name: str, data: bytes, schema: pa.Schema, columns: list[str], limits: Limits
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a Parquet file; refuse it when they take too much memory."""
    # Text stays dictionary encoded while it is measured: a file can repeat a long value of a short
    # dictionary millions of times.
    texts = [field.name for field in schema if _is_text(field.type)]
    begun = False
    try:
        for batch in _within(name, data, columns, limits, texts, _ROWS):
            begun = True
            yield batch
    except OSError as error:
        if begun or "DictAccumulator" not in str(error):
            raise
        # Text in a delta encoding has no dictionary. A value is at most as long as its row group.
        metadata = pq.read_metadata(io.BytesIO(data))
        sizes = [metadata.row_group(index).total_byte_size for index in range(metadata.num_row_groups)]
        rows = min(_ROWS, max(1, limits.uncompressed_bytes // max(1, *sizes, 1)))
        yield from _within(name, data, columns, limits, [], rows)


def _within(
    name: str, data: bytes, columns: list[str], limits: Limits, dictionaries: Sequence[str], rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield up to `rows` rows at a time while all of them fit into memory."""
    file = pq.ParquetFile(
        io.BytesIO(data), read_dictionary=list(dictionaries), page_checksum_verification=True
    )
    size = 0
    for batch in file.iter_batches(batch_size=rows, columns=columns):
        size += sum(_decoded_bytes(column) for column in batch.columns)
        if size > limits.uncompressed_bytes:
            raise too_big(name, "bytes in memory", limits.uncompressed_bytes, "more")
        yield batch


def _with_exact_times(name: str, data: bytes, file: pq.ParquetFile, table: pa.Table) -> pa.Table:
    """Return the table with its INT96 timestamps read exactly.

    INT96 (Spark, Impala, Hive) counts nanoseconds from a Julian day. Arrow reads it as nanoseconds since
    1970, which wraps before 1677-09-21 and after 2262-04-11, as for the usual "no end" of 9999-12-31. Such
    a column is read in microseconds.

    Raises
    ------
    BatchRefused
        If a time beyond these years has nanoseconds, or lies beyond what microseconds can count.
    """
    kinds = [file.schema.column(index) for index in range(len(file.schema))]
    legacy = [
        kind.path for kind in kinds if kind.physical_type == "INT96" and kind.path in table.column_names
    ]
    if not legacy:
        return table
    ticks = {}
    for unit in ("s", "us", "ns"):
        source = pq.ParquetFile(io.BytesIO(data), coerce_int96_timestamp_unit=unit)
        ticks[unit] = source.read(columns=legacy)
    for each in legacy:
        coarse, micros, nanos = (_ticks(ticks[unit].column(each)) for unit in ("s", "us", "ns"))
        seconds = (np.iinfo(np.int64).max // 10**9) - 1
        if (np.abs(coarse) < seconds).all():
            continue  # Nanoseconds count all of them.
        exact = (nanos - micros * 1000 == 0) & (micros // 1_000_000 == coarse)  # modulo 2^64
        if not exact.all():
            where = rows_text(np.flatnonzero(~exact).tolist())
            raise BatchRefused(
                f"{name} has times in column {each!r} that cannot be read exactly",
                expected="times between 1677-09-21 and 2262-04-11, or whole microseconds",
                found=f"another time, stored as INT96, in row {where}",
                todo="write the column as a timestamp in microseconds",
            )
        table = table.set_column(table.column_names.index(each), each, ticks["us"].column(each))
    return table


def _ticks(column: pa.ChunkedArray) -> np.ndarray:
    """Return the integers behind a column of timestamps, 0 for nulls."""
    return np.asarray(column.cast(pa.int64()).fill_null(0).to_numpy())


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


def _is_index(name: str, schema: pa.Schema, spelled: str, declared: BatchSchema) -> bool:
    """Return whether a column that the schema does not declare is a pandas index without a name.

    pandas, and what rewrites its files, calls it ``__index_level_0__``; fastparquet ``index``.
    """
    if declared.declares(spelled):
        return False
    if re.fullmatch(r"__index_level_\d+__", name):
        return True
    return name == "index" and b'"index_columns": ["index"]' in (schema.metadata or {}).get(b"pandas", b"")


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


class PartOf:
    """The schema of one file of a folder: the declared one without the columns of its partitions."""

    def __init__(self, schema: BatchSchema, partitions: Sequence[str]) -> None:
        self._schema, self._partitions = schema, tuple(partitions)

    def columns(self, found: Sequence[str]) -> tuple[Column, ...]:
        """Return the declared columns of a file with the columns `found`."""
        columns = self._schema.columns([*found, *self._partitions])
        return tuple(column for column in columns if column.name not in self._partitions)

    def declares(self, name: str) -> bool:
        """Return whether a column of this name is declared."""
        return self._schema.declares(name)

    def conform(self, table: pa.Table) -> pa.Table:
        """Return the table as it is: it is checked with the columns of its folders."""
        return table


def read_folder(folder: Path, expected: Expected, bytes_of: Callable[[Path, Limits], bytes]) -> pa.Table:
    """Return the rows of all Parquet files of a folder, in order of their paths.

    Names that begin with a dot or an underscore (``_SUCCESS``, ``_delta_log``) are left out, as Spark does;
    links are not followed.

    Parameters
    ----------
    folder, expected
        The folder, and what it is expected to hold; the limits count all files together.
    bytes_of
        Returns the bytes of a file within limits.

    Raises
    ------
    BatchUnreadable
        If there is no Parquet file, one cannot be read, or two disagree about the type of a column.
    BatchRefused
        If the columns do not fit the schema, or all files together exceed a limit.
    """
    name, limits, size = shown_name(folder), expected.limits, 0
    tables = list[pa.Table]()
    for path in _files(folder):
        partitions = partitions_of(path.relative_to(folder).parent)
        data = bytes_of(path, limits)
        size += len(data)
        if size > limits.file_bytes:
            raise too_big(name, "bytes in the files", limits.file_bytes, "more")
        part = replace(expected, schema=PartOf(expected.schema, list(partitions)))
        table = read_parquet(f"{shown_name(path)} in {name}", data, part)
        for column, value in partitions.items():
            table = table.append_column(column, pa.array([value] * table.num_rows, pa.string()))
        tables.append(table)
        if sum(table.nbytes for table in tables) > limits.uncompressed_bytes:
            raise too_big(name, "bytes in memory", limits.uncompressed_bytes, "more")
    if not tables:
        raise BatchUnreadable(
            f"{name} has no Parquet file",
            expected="a file, or a folder of Parquet files",
            found="a folder without files that end in .parquet",
            todo="give the path of one file, or of the folder that was written",
        )
    return _together(name, tables)


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith((".", "_")) or path.is_symlink():
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix.lower() == ".parquet":
            yield path


def partitions_of(folders: Path) -> dict[str, str | None]:
    """Return the columns that the names of folders state, outermost first."""
    pairs = (part.partition("=") for part in folders.parts)
    return {unquote(key): None if value == _NULL else unquote(value) for key, mark, value in pairs if mark}


def _together(name: str, tables: Sequence[pa.Table]) -> pa.Table:
    plain = [
        pa.table({column: decode(table.column(column)) for column in table.column_names}) for table in tables
    ]
    first = plain[0].column_names
    try:
        return pa.concat_tables([table.select(first) for table in plain])
    except (pa.ArrowInvalid, KeyError) as error:
        raise BatchUnreadable(
            f"The files of {name} do not fit together",
            expected="the same columns with the same types in every file",
            found=printable(" ".join(str(error).split())[:300]),
            todo="write all files of the folder by one program, with one schema",
        ) from error
