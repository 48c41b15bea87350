"""Batches: validated, sorted, immutable tables that a digest identifies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lindley.atomic import write_over
from lindley.batch.digest import FORMAT, content_digest
from lindley.batch.frames import frame_from_table, table_from_frame
from lindley.batch.row_keys import Changes, check_key, key_ranges_of, order_of, range_columns
from lindley.batch.schema import ArrowSchema, BatchSchema, listed
from lindley.errors import BatchRefused, DeclarationRefused
from lindley.model.declaration import Declaration
from lindley.names import printable

#: Metadata key of the Parquet files that `write_batch` writes; the value is the batch digest.
DIGEST_KEY = FORMAT.encode()


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
        The row key: columns without null or NaN that identify a row, or `BY_CONTENT` or `BY_POSITION` (see
        `lindley.batch.row_keys`).
    origin
        Source of the rows, for people: a file name, with unprintable characters escaped.
    context
        Rows before the batch that the model conditions on without counting them; None where the
        declaration has no context. Not part of the digest.
    dropped
        Rows of the file that are not in the batch; None where the batch has all.
    changes
        How its rows differ from those of the batches that it replaces; None where it replaces none.
    object
        Tag and version of the bucket's object that it was read of; None where it was a file.
    seconds
        Seconds of reading and validating the file, by phase; empty for rows from elsewhere.
    """

    table: pa.Table
    digest: str
    key: tuple[str, ...]
    origin: str
    context: pa.Table | None = None
    dropped: Dropped | None = None
    changes: Changes | None = None
    object: Mapping[str, str | None] | None = None
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
        """Return the ends [smallest, largest] of each key column, as text; see `lindley.batch.row_keys`."""
        return key_ranges_of(self.table, range_columns(self.table, self.key))


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
    with naming(origin):
        named = any(name is not None for name in frame.index.names)
        table = table_from_frame(frame.reset_index() if named else frame)
        if table.num_rows == 0:
            raise BatchRefused("the frame has no rows", expected="at least one row")
        return conformed(schema.conform(table), declaration, origin)


def write_batch(batch: Batch, path: Path) -> None:
    """Write the batch as Parquet: the same bytes for the same batch and pyarrow version.

    The file appears whole or not at all, and replaces one of the same name.
    """
    path = Path(path)
    table = batch.table.replace_schema_metadata({DIGEST_KEY: batch.digest.encode()})
    buffer = pa.BufferOutputStream()
    pq.write_table(
        table, buffer, compression="zstd", row_group_size=2**20, version="2.6", write_page_checksum=True
    )
    write_over(buffer.getvalue().to_pybytes(), path)


@contextmanager
def naming(origin: str) -> Iterator[None]:
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


def conformed(table: pa.Table, declaration: Declaration, origin: str) -> Batch:
    """Return the batch of a table that already conforms to the schema."""
    key = tuple(declaration.row_key)
    order = (*(declaration.order_by or ()), *order_of(table, key))
    undeclared = [name for name in order if name not in table.column_names]
    if undeclared:
        raise DeclarationRefused(
            f"The declaration of {declaration.name} was refused",
            expected=f"row_key and order_by to name columns of the schema: {listed(table.column_names)}",
            found=listed(undeclared),
            todo="correct the names, or add the columns to the schema",
        )
    check_key(table, key)
    table = table.sort_by([(name, "ascending") for name in dict.fromkeys(order)]).combine_chunks()
    return Batch(table=table, digest=content_digest(table), key=key, origin=printable(origin))


def joined(batches: Sequence[Batch]) -> Batch:
    """Return the rows of several batches as one table, oldest first, with the oldest one's context."""
    table = pa.concat_tables([batch.table for batch in batches])
    first = batches[0]
    return Batch(table=table, digest="", key=first.key, origin=first.origin, context=first.context)
