"""A folder of Parquet files as one table: the files that Spark, Dask, polars and DuckDB write in partitions.

A folder named ``KEY=VALUE`` adds the column KEY to the files below it, as in Hive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pyarrow as pa

from lindley.batch.digest import decode
from lindley.batch.expected import Expected
from lindley.batch.limits import Limits, too_big
from lindley.batch.parquet_format import read_parquet
from lindley.batch.schema import BatchSchema, Column
from lindley.errors import BatchUnreadable
from lindley.names import printable, shown_name

#: Hive's name of the null partition.
_NULL = "__HIVE_DEFAULT_PARTITION__"


class _PartOf:
    """The schema of one file of a folder: the declared one without the columns of its partitions."""

    def __init__(self, schema: BatchSchema, partitions: Sequence[str]) -> None:
        self._schema, self._partitions = schema, tuple(partitions)

    def columns(self, found: Sequence[str]) -> tuple[Column, ...]:
        columns = self._schema.columns([*found, *self._partitions])
        return tuple(column for column in columns if column.name not in self._partitions)

    def declares(self, name: str) -> bool:
        return self._schema.declares(name)

    def conform(self, table: pa.Table) -> pa.Table:
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
        partitions = _partitions(path.relative_to(folder).parent)
        data = bytes_of(path, limits)
        size += len(data)
        if size > limits.file_bytes:
            raise too_big(name, "bytes in the files", limits.file_bytes, "more")
        part = replace(expected, schema=_PartOf(expected.schema, list(partitions)))
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


def _partitions(folders: Path) -> dict[str, str | None]:
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
