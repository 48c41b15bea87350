"""Batches: validated, sorted, immutable tables that a digest identifies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lindley.atomic import write_over
from lindley.batch.casting import cast_column, shown_value
from lindley.batch.digest import FORMAT, content_digest, decode, family
from lindley.batch.frames import frame_from_table, table_from_frame
from lindley.batch.key_ranges import key_ranges_of
from lindley.batch.limits import UNLIMITED, Limits
from lindley.batch.readers import read_table
from lindley.batch.schema import ArrowSchema, BatchSchema, cast_table, listed, missing_rows, rows_text
from lindley.errors import BatchRefused, DeclarationRefused, LedgerCorrupt
from lindley.model.declaration import Declaration
from lindley.names import printable, shown_name
from lindley.timing import READ, VALIDATE, Phases

#: Metadata key of the Parquet files that `write_batch` writes; the value is the batch digest.
_DIGEST_KEY = FORMAT.encode()


@dataclass(frozen=True)
class Dropped:
    """Rows of a file that are not in its batch, because the chain already counts their keys.

    Parameters
    ----------
    rows, digest
        Number of rows, and their content digest.
    links
        Record digests of the links that count rows with their keys.
    """

    rows: int
    digest: str
    links: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as in the record."""
        return {"rows": self.rows, "digest": self.digest, "links": list(self.links)}


@dataclass(frozen=True)
class Batch:
    """An immutable set of rows that fit a declaration.

    Parameters
    ----------
    table
        The declared columns in declared order with their declared types, sorted by the declaration's
        `order_by` and then the row key, so that rows have one order; no schema metadata.
    digest
        Content digest of the table, see `lindley.batch.digest`.
    key
        The row key: columns without null or NaN that identify a row.
    origin
        Source of the rows, for people: a file name, with unprintable characters escaped.
    context
        Rows before the batch that the model conditions on without counting them; None where the
        declaration has no context. Not part of the digest.
    dropped
        Rows of the file that are not in the batch; None where the batch has all.
    seconds
        Seconds of reading and validating the file, by phase; empty for rows from elsewhere.
    """

    table: pa.Table
    digest: str
    key: tuple[str, ...]
    origin: str
    context: pa.Table | None = None
    dropped: Dropped | None = None
    seconds: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return int(self.table.num_rows)

    def frame(self) -> pd.DataFrame:
        """Return the rows as a new pandas frame of plain numpy dtypes, as given to `build`.

        See `lindley.batch.frames.frame_from_table` for the dtypes.
        """
        return frame_from_table(self.table)

    def context_frame(self) -> pd.DataFrame | None:
        """Return the context rows as `frame` does the batch's."""
        return None if self.context is None else frame_from_table(self.context)

    def key_ranges(self) -> dict[str, list[str]]:
        """Return the ends [smallest, largest] of each key column, as text; see `lindley.batch.key_ranges`."""
        return key_ranges_of(self.table, self.key)


def as_schema(schema: Any) -> BatchSchema:
    """Wrap a declared schema.

    Parameters
    ----------
    schema
        A `pyarrow.Schema`, a pandera `DataFrameSchema`, or a subclass of pandera's `DataFrameModel`.

    Raises
    ------
    DeclarationRefused
        If it is something else, or declares columns that batches cannot contain.
    """
    if isinstance(schema, pa.Schema):
        return ArrowSchema(schema)
    made_by = schema if isinstance(schema, type) else type(schema)
    if any(base.__module__.split(".")[0] == "pandera" for base in made_by.__mro__):
        # Imported here to save start-up time: pandera takes a second, and most commands do not use it.
        from lindley.batch.pandera_schema import PanderaSchema

        return PanderaSchema(schema)
    raise DeclarationRefused(
        "The declared schema was refused",
        expected="a pyarrow.Schema or a pandera DataFrameSchema or DataFrameModel",
        found=repr(schema)[:120],
        todo='declare schema=pa.schema([pa.field("day", pa.date32(), nullable=False), ...])',
    )


def read_batch(path: Path, declaration: Declaration, *, limits: Limits | None = None) -> Batch:
    """Read, validate and identify a CSV or Parquet file.

    Parameters
    ----------
    path
        The file; unchanged.
    declaration
        The declaration that the file must fit.
    limits
        Bounds on file and table, see `lindley.batch.limits.Limits`.

    Raises
    ------
    BatchUnreadable
        If the bytes are not a table.
    BatchRefused
        If the table does not fit the schema, is empty or too big, or repeats a row key.
    FileUnavailable
        If the operating system does not let Lindley read it.
    DeclarationRefused
        If row key or `order_by` name columns that the schema does not declare.
    """
    path = Path(path)
    schema = as_schema(declaration.schema)
    phases = Phases()
    with _naming(shown_name(path)):
        with phases(READ):
            table = read_table(path, schema, limits)
        with phases(VALIDATE):
            batch = _batch(schema.conform(table), declaration, path.name)
    return replace(batch, seconds=phases.seconds)


def batch_from_frame(frame: pd.DataFrame, declaration: Declaration, origin: str = "memory") -> Batch:
    """Validate and identify a pandas frame.

    Named index levels become columns. NaN in a numpy float column becomes null, as in pandas' own CSV and
    Parquet writers.

    Raises
    ------
    BatchRefused
        If the frame does not fit the schema, is empty, or repeats a row key.
    DeclarationRefused
        If row key or `order_by` name columns that the schema does not declare.
    """
    schema = as_schema(declaration.schema)
    with _naming(origin):
        named = any(name is not None for name in frame.index.names)
        table = table_from_frame(frame.reset_index() if named else frame)
        if table.num_rows == 0:
            raise BatchRefused("the frame has no rows", expected="at least one row")
        return _batch(schema.conform(table), declaration, origin)


def load_batch(path: Path, declaration: Declaration) -> Batch:
    """Read a batch that was archived or logged, and check its digest.

    A Parquet file of `write_batch` states its digest and contains the conformed rows: they are cast to the
    declared types but not parsed or checked again, because the belief that they led to stands. Any other
    file is read as by `read_batch`, without limits.

    Raises
    ------
    LedgerCorrupt
        If the digest that the file states is not that of its content.
    BatchRefused
        If it is not a batch of this declaration.
    """
    path = Path(path)
    schema = as_schema(declaration.schema)
    with _naming(shown_name(path)):
        table = read_table(path, schema, UNLIMITED)
        stated = (table.schema.metadata or {}).get(_DIGEST_KEY)
        if stated is None:
            return _batch(schema.conform(table), declaration, path.name)
        batch = _batch(cast_table(table, schema.columns(table.column_names)), declaration, path.name)
    if batch.digest != stated.decode("ascii", "replace"):
        raise LedgerCorrupt(
            f"The batch in {shown_name(path)} changed since it was written",
            expected=f"content digest {stated.decode('ascii', 'backslashreplace')[:80]}",
            found=batch.digest,
            todo="restore the file from a backup, and run lindley verify",
        )
    return batch


def write_batch(batch: Batch, path: Path) -> None:
    """Write the batch as Parquet: the same bytes for the same batch and pyarrow version.

    The file appears whole or not at all, and replaces one of the same name.
    """
    path = Path(path)
    table = batch.table.replace_schema_metadata({_DIGEST_KEY: batch.digest.encode()})
    buffer = pa.BufferOutputStream()
    pq.write_table(
        table, buffer, compression="zstd", row_group_size=2**20, version="2.6", write_page_checksum=True
    )
    write_over(buffer.getvalue().to_pybytes(), path)


def shared_keys(batch: Batch, other: pa.Table) -> pa.Table:
    """Return the row keys of `batch` that occur in `other` too, sorted, one row each.

    Parameters
    ----------
    batch
        The batch.
    other
        Any table with the key columns, of types that can be cast to the batch's without loss.

    Raises
    ------
    BatchRefused
        If `other` lacks a key column, or holds it with a type that does not fit.
    """
    absent = [name for name in batch.key if name not in other.column_names]
    if absent:
        raise BatchRefused(
            "Row keys cannot be compared",
            expected=f"the key columns {listed(batch.key)} in both tables",
            found=f"a table without {listed(absent)}",
            todo="keep the row key of a chain the same, or start a new chain",
        )
    mine = _keys(batch.table, batch.key)
    theirs = pa.table(
        {name: cast_column(name, other.column(name), mine.schema.field(name).type) for name in batch.key}
    )
    shared = mine.join(_keys(theirs, batch.key), keys=list(batch.key), join_type="left semi")
    return shared.select(list(batch.key)).sort_by([(name, "ascending") for name in batch.key])


def split_by_keys(batch: Batch, keys: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows of a batch whose key is not in `keys`, and those whose key is, in its order.

    Parameters
    ----------
    keys
        Results of `shared_keys`, of one table or several.
    """
    place = "row number"  # Distinct from the key's columns, which are renamed.
    columns = [f"key {number}" for number in range(len(batch.key))]
    mine = _keys(batch.table, batch.key).rename_columns(columns)
    rows = mine.append_column(place, pa.array(range(mine.num_rows), pa.int64()))
    theirs = keys.select(list(batch.key)).rename_columns(columns)
    found = [
        rows.join(theirs, keys=columns, join_type=kind).sort_by(place).column(place)
        for kind in ("left anti", "left semi")
    ]
    kept, dropped = (batch.table.take(numbers).combine_chunks() for numbers in found)
    return kept, dropped


@contextmanager
def _naming(origin: str) -> Iterator[None]:
    """Put the origin in front of refusals that do not name it."""
    try:
        yield
    except BatchRefused as error:
        if error.happened.startswith(origin):
            raise
        happened = error.happened[:1].lower() + error.happened[1:]
        raise type(error)(
            f"{origin} was refused: {happened}", expected=error.expected, found=error.found, todo=error.todo
        ) from error


def _batch(table: pa.Table, declaration: Declaration, origin: str) -> Batch:
    """Return the batch of a table that already conforms to the schema."""
    key = tuple(declaration.row_key)
    order = (*(declaration.order_by or ()), *key)
    undeclared = [name for name in order if name not in table.column_names]
    if undeclared:
        raise DeclarationRefused(
            f"The declaration of {declaration.name} was refused",
            expected=f"row_key and order_by to name columns of the schema: {listed(table.column_names)}",
            found=listed(undeclared),
            todo="correct the names, or add the columns to the schema",
        )
    _check_key(table, key)
    table = table.sort_by([(name, "ascending") for name in dict.fromkeys(order)]).combine_chunks()
    return Batch(table=table, digest=content_digest(table), key=key, origin=printable(origin))


def _check_key(table: pa.Table, key: tuple[str, ...]) -> None:
    """Refuse row keys with gaps, and row keys that occur twice."""
    for name in key:
        rows = missing_rows(table.column(name))
        if rows:
            raise BatchRefused(
                f"the row key column {name!r} has missing values",
                expected="neither null nor NaN in the row key",
                found=f"{len(rows)} missing, in row {rows_text(rows)}",
                todo="fill in the values, or choose a row key that is always known",
            )
    columns = [f"key {number}" for number in range(len(key))]  # A key column may be named count_all.
    counts = _keys(table, key).rename_columns(columns).group_by(columns).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))
    if repeated.num_rows:
        first = repeated.sort_by([(column, "ascending") for column in columns])
        values = (shown_value(first[column][0]) for column in columns)
        shown = ", ".join(f"{name}={value}" for name, value in zip(key, values, strict=True))
        raise BatchRefused(
            "row keys are repeated",
            expected=f"each combination of {listed(key)} once",
            found=f"{repeated.num_rows} repeated, for example {shown[:200]} in {first['count_all'][0]} rows",
            todo="remove the repeated rows, or declare a row key that distinguishes them",
        )


def _keys(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Return the key columns for comparison: -0.0 is 0.0, so that equal numbers are equal keys."""
    columns = {name: decode(table.column(name)) for name in key}
    return pa.table(
        {
            name: pc.add(column, pa.scalar(0.0, column.type)) if family(column.type) == "float" else column
            for name, column in columns.items()
        }
    )
