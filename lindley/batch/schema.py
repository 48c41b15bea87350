"""A small protocol over the two kinds of schema that a declaration may have.

A `pyarrow.Schema` declares types and nullability. A pandera `DataFrameSchema` (or `DataFrameModel`)
declares checks as well. Both turn a table from any source into one with the declared columns in
declared order and exactly the declared types.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from lindley.batch.casting import cast_column
from lindley.batch.digest import FLAT, family, flat_family, value_type
from lindley.batch.logical_types import flat_values
from lindley.errors import BatchRefused, DeclarationRefused
from lindley.report.text import counted


@dataclass(frozen=True)
class Column:
    """One declared column.

    Parameters
    ----------
    name
        Its name.
    type
        The Arrow type in batches; None accepts any flat type.
    nullable
        Whether null and NaN are allowed.
    """

    name: str
    type: pa.DataType | None
    nullable: bool


class BatchSchema(Protocol):
    """The interface of a declared schema."""

    def columns(self, found: Sequence[str]) -> tuple[Column, ...]:
        """Return the declared columns, in declared order, of an input with the columns `found`.

        Raises
        ------
        BatchRefused
            If a declared column is missing, or a column is unexpected or repeated.
        """

    def declares(self, name: str) -> bool:
        """Return whether a column of this name is declared."""

    def conform(self, table: pa.Table) -> pa.Table:
        """Return the table cast to the declared types and checked, without schema metadata.

        Raises
        ------
        BatchRefused
            If the table does not fit the schema; the message names the columns and rows at fault.
        """


class ArrowSchema:
    """A declared `pyarrow.Schema`.

    Dictionary and run-end encoded fields stand for their values; metadata is ignored.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = tuple(
            Column(field.name, check_type(field.name, field.type), field.nullable) for field in schema
        )
        repeated = duplicates(column.name for column in self._columns)
        if repeated or not self._columns:
            raise DeclarationRefused(
                "The declared schema was refused",
                expected="at least one column, each with a name of its own",
                found=f"repeated: {listed(repeated)}" if repeated else "no column",
            )

    def columns(self, found: Sequence[str]) -> tuple[Column, ...]:
        """Return the declared columns; see `BatchSchema`."""
        names = [column.name for column in self._columns]
        check_names(found, required=names, allowed=names)
        return self._columns

    def declares(self, name: str) -> bool:
        """Return whether a column of this name is declared."""
        return any(column.name == name for column in self._columns)

    def conform(self, table: pa.Table) -> pa.Table:
        """Return the table cast and checked for nulls; see `BatchSchema`."""
        columns = self.columns(table.column_names)
        table = cast_table(table, columns)
        check_nulls(table, columns)
        return table


def check_type(name: str, kind: pa.DataType) -> pa.DataType:
    """Return the type that batches have for a declared type.

    Raises
    ------
    DeclarationRefused
        If the type is nested, an extension or has no values.
    """
    if family(kind) in (None, "null"):
        raise DeclarationRefused(
            f"The schema declares column {name!r} with a type that batches cannot contain",
            expected=FLAT,
            found=str(kind)[:120],
            todo="declare flat columns",
        )
    return value_type(kind)


def declared_names(found: Sequence[str], schema: BatchSchema) -> list[str]:
    """Return the names of found columns as the schema spells them.

    Unicode has two spellings of most accented letters, and macOS writes the decomposed one: a name that is
    declared in the other normal form (NFC or NFD) is that column, unless both are found.
    """
    spelled = []
    for name in found:
        forms = [name, *(unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
        match = next((form for form in forms if schema.declares(form)), name)
        spelled.append(name if match != name and match in found else match)
    return spelled


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return one type for all text types and one for all byte types, other types unchanged."""
    return {"string": pa.string(), "binary": pa.binary()}.get(family(kind) or "", value_type(kind))


def check_names(found: Sequence[str], *, required: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuse missing, unexpected and repeated column names, naming them.

    Raises
    ------
    BatchRefused
        If there are any.
    """
    problems = {
        "missing": [name for name in required if name not in set(found)],
        "unexpected": [name for name in found if name not in set(allowed)],
        "repeated": duplicates(found),
    }
    if any(problems.values()):
        raise BatchRefused(
            "The columns do not match the declared schema",
            expected=listed(required),
            found="; ".join(f"{what}: {listed(names)}" for what, names in problems.items() if names),
            todo="correct the header of the file, or the schema in the declaration",
        )


def cast_table(table: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """Return the `columns` of the table with their declared types, without schema metadata.

    Raises
    ------
    BatchRefused
        If a column cannot be cast without loss, or has a type that batches cannot contain.
    """
    arrays, fields = [], []
    for column in columns:
        values = flat_values(table.field(column.name), table.column(column.name), column.type)
        flat_family(column.name, values.type)
        arrays.append(cast_column(column.name, values, column.type or plain_type(values.type)))
        fields.append(pa.field(column.name, arrays[-1].type, nullable=column.nullable))
    return pa.table(arrays, schema=pa.schema(fields))


def check_nulls(table: pa.Table, columns: Sequence[Column]) -> None:
    """Refuse null and NaN in columns that allow neither, naming columns and rows.

    Raises
    ------
    BatchRefused
        If there are any.
    """
    problems = [
        f"{column.name!r} in {counted(len(rows), 'row')} (row {rows_text(rows)})"
        for column in columns
        if not column.nullable and (rows := missing_rows(table.column(column.name)))
    ]
    if problems:
        raise BatchRefused(
            "Values are missing where the schema allows none",
            expected="neither null nor NaN in these columns",
            found="; ".join(problems[:5]) + (f"; and {len(problems) - 5} more" if len(problems) > 5 else ""),
            todo="fill in the values, or declare the columns nullable",
        )


def missing_rows(values: pa.ChunkedArray) -> list[int]:
    """Return the positions of null and NaN."""
    missing = values.is_null(nan_is_null=True)
    return [] if not pc.any(missing).as_py() else pc.indices_nonzero(missing).to_pylist()


def rows_text(positions: Sequence[int], limit: int = 3) -> str:
    """Return the first few positions as row numbers that start at 1."""
    text = ", ".join(str(position + 1) for position in positions[:limit])
    return text + ", ..." if len(positions) > limit else text


def listed(names: Iterable[str], limit: int = 10) -> str:
    """Return up to `limit` quoted names."""
    quoted = [repr(name)[:80] for name in names]
    return ", ".join(quoted[:limit]) + (f" and {len(quoted) - limit} more" if len(quoted) > limit else "")


def duplicates(names: Iterable[str]) -> list[str]:
    """Return the names that occur more than once, in order of their second occurrence."""
    seen: set[str] = set()
    return [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
