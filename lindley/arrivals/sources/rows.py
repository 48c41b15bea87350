"""The rows of what was pulled, conformed to the chain's schema, in pieces that fit into memory."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import BinaryIO, cast

import pandas as pd
import pyarrow as pa

from lindley.arrivals.sources.protocol import Pulled
from lindley.batch.batch import as_schema, naming
from lindley.batch.csv_format import read_csv
from lindley.batch.expected import Expected
from lindley.batch.formats import format_of
from lindley.batch.frames import table_from_frame
from lindley.batch.limits import UNLIMITED
from lindley.batch.parquet_format import PartOf, parquet_blocks, partitions_of
from lindley.batch.row_keys import check_gaps
from lindley.batch.schema import BatchSchema, Column
from lindley.errors import BatchRefused, BatchUnreadable, LindleyError
from lindley.model.declaration import Declaration
from lindley.names import shown_name

#: Bytes of text that are parsed at once.
TEXT_BLOCK = 2**24
#: First columns that count the rows of a whole file.
_COUNTERS = (b"", b'""', b"Unnamed: 0")


def pieces(pulled: Pulled, declaration: Declaration) -> Iterator[tuple[str, pa.Table]]:
    """Yield the rows of what was pulled, in their order, each piece with its name.

    With the declaration's `split` a piece is what it cuts and has the name that it gives; it is called with
    the path of the file (or folder) that was read. Otherwise pieces are blocks of rows without a name.

    Raises
    ------
    BatchRefused
        If the rows do not fit the schema, a row lacks its key, or `split` fails.
    """
    schema, key = as_schema(declaration.schema), tuple(declaration.row_key)
    read: BatchSchema = Beside(schema, pulled.beside) if pulled.beside else schema
    with naming(pulled.name):
        if declaration.split is not None:
            yield from _cut(declaration.split, pulled.path, declaration, schema)
            return
        expected = Expected(schema=read, limits=UNLIMITED, missing=declaration.missing)
        for table in blocks(pulled.path, expected):
            conformed = schema.conform(table)
            check_gaps(conformed, key)
            yield "", conformed


class Beside:
    """A schema of rows with columns about their source, which are left out where it does not declare them."""

    def __init__(self, schema: BatchSchema, beside: tuple[str, ...]) -> None:
        self._schema, self._beside = schema, beside

    def columns(self, found: Sequence[str]) -> tuple[Column, ...]:
        """Return the declared columns of an input with the columns `found`."""
        kept = [name for name in found if name not in self._beside or self._schema.declares(name)]
        return self._schema.columns(kept)

    def declares(self, name: str) -> bool:
        """Return whether a column of this name is declared."""
        return self._schema.declares(name)

    def conform(self, table: pa.Table) -> pa.Table:
        """Return the table cast and checked; see `lindley.batch.schema.BatchSchema`."""
        return self._schema.conform(table)


def removed(pulled: Pulled, declaration: Declaration) -> Iterator[pa.Table]:
    """Yield the rows that a source states to be gone, a block at a time."""
    if pulled.removed is None:
        return
    schema = as_schema(declaration.schema)
    expected = Expected(schema=Beside(schema, pulled.beside), limits=UNLIMITED, missing=declaration.missing)
    with naming(pulled.name):
        yield from (schema.conform(table) for table in blocks(pulled.removed, expected))


def blocks(path: Path, expected: Expected) -> Iterator[pa.Table]:
    """Yield the rows of a file, or of all files of a folder, a block at a time, not yet cast."""
    if path.is_file():
        yield from _file_blocks(path, expected)
        return
    for file in sorted(found for found in path.rglob("*") if found.is_file()):
        partitions = partitions_of(file.relative_to(path).parent)
        part = PartOf(expected.schema, list(partitions)) if partitions else expected.schema
        for block in _file_blocks(file, replace(expected, schema=part)):
            yield reduce(_with_partition, partitions.items(), block)


def _with_partition(table: pa.Table, partition: tuple[str, str | None]) -> pa.Table:
    column, value = partition
    return table.append_column(column, pa.array([value] * table.num_rows, pa.string()))


def _file_blocks(path: Path, expected: Expected) -> Iterator[pa.Table]:
    form, name = format_of(path), shown_name(path)
    if form is None:
        raise BatchUnreadable(f"{name} has an extension that cannot be read", found=repr(path.suffix))
    if form.extension == ".parquet":
        yield from parquet_blocks(name, path, expected)
        return
    try:
        with gzip.open(path) if form.extension == ".csv.gz" else path.open("rb") as file:
            for text in text_blocks(cast(BinaryIO, file), TEXT_BLOCK):
                yield read_csv(name, text, expected)
    except (OSError, EOFError, zlib.error) as error:
        raise BatchUnreadable(
            f"{name} cannot be read",
            expected=form.content,
            found=str(error)[:200],
            todo="write the file again; it is damaged or was cut off",
        ) from error


def text_blocks(file: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield a CSV file in blocks of about `size` bytes, each with the header and then whole rows.

    A row ends at a line feed that an even number of quotes precedes. A file whose first column counts its
    rows comes as one block, since a counter is known by all of its values.
    """
    header, rest, begun = b"", b"", False
    for part in iter(lambda: file.read(size), b""):
        rest += part
        if not header:
            end = _first_end(rest)
            if not end:
                continue
            if rest[:end].lstrip(b"\xef\xbb\xbf").split(b",")[0].strip() in _COUNTERS:
                yield rest + file.read()
                return
            header, rest = rest[:end], rest[end:]
        end = _last_end(rest)
        if end:
            yield header + rest[:end]
            rest, begun = rest[end:], True
    if rest.strip() or not begun:
        yield header + rest


def _first_end(text: bytes) -> int:
    """Return the place behind the first row; 0 where no row ends."""
    place = text.find(b"\n")
    while place >= 0 and text.count(b'"', 0, place) % 2:
        place = text.find(b"\n", place + 1)
    return place + 1


def _last_end(text: bytes) -> int:
    """Return the place behind the last whole row; 0 where no row ends."""
    place = text.rfind(b"\n")
    while place >= 0 and text.count(b'"', 0, place) % 2:
        place = text.rfind(b"\n", 0, place)
    return place + 1


def _cut(
    split: Callable[[str], Iterable[tuple[str, pd.DataFrame]]],
    path: Path,
    declaration: Declaration,
    schema: BatchSchema,
) -> Iterator[tuple[str, pa.Table]]:
    try:
        for stem, frame in split(str(path)):
            table = schema.conform(table_from_frame(frame))
            check_gaps(table, tuple(declaration.row_key))
            yield stem, table
    except LindleyError:
        raise
    except Exception as error:  # the user's code and data
        raise BatchRefused(
            f"The split of {declaration.name} cannot cut it",
            expected="pairs of a stem and a frame",
            found=f"{type(error).__name__}: {error}"[:300],
            todo="correct the model file's split; it is called with the path of what was pulled",
        ) from error
