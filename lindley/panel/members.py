"""Cut a batch of a panel into the batches of its members."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pyarrow as pa

from lindley.batch.batch import Batch
from lindley.batch.digest import content_digest, decode, family
from lindley.batch.schema import missing_rows, rows_text
from lindley.errors import BatchRefused, DeclarationRefused
from lindley.model.declaration import Declaration
from lindley.panel.key import MemberKey

#: Members of one batch at most: their rows and beliefs are in memory together.
MOST_MEMBERS = 200_000
_KINDS = ("string", "int", "bool", "date")


def split(table: pa.Table, declaration: Declaration) -> dict[MemberKey, pa.Table]:
    """Return the rows of each member by its key, sorted by canonical key; the order of rows is kept.

    Raises
    ------
    DeclarationRefused
        If a column of `by` is missing, or of another type than text, integer, boolean or date.
    BatchRefused
        If a key has a missing value, or there are more members than `MOST_MEMBERS`.
    MemberRefused
        If a key is too long, or an integer has no exact form in JSON.
    """
    check_keys(table, declaration)
    return split_by(table, declaration.by)


def check_keys(table: pa.Table, declaration: Declaration) -> None:
    """Refuse a table whose columns of `by` cannot be keys; see `split`."""
    for name in declaration.by:
        _check(table, name, declaration)


def split_by(table: pa.Table, by: tuple[str, ...]) -> dict[MemberKey, pa.Table]:
    """Return the rows of each member of a table whose key columns were checked; see `split`."""
    return {
        key: table.take(pa.array(rows, pa.int64())).combine_chunks()
        for key, rows in places_by(table, by).items()
    }


def places_by(table: pa.Table, by: tuple[str, ...]) -> dict[MemberKey, list[int]]:
    """Return the positions of each member's rows by its key; see `split_by`."""
    columns = [_values(table.column(name)).to_pylist() for name in by]
    places: dict[tuple[Any, ...], list[int]] = {}
    for place, values in enumerate(zip(*columns, strict=True)):
        places.setdefault(values, []).append(place)
        if len(places) > MOST_MEMBERS:
            raise BatchRefused(
                "the batch has rows of too many members",
                expected=f"at most {MOST_MEMBERS:,} keys ({', '.join(by)}) in one batch",
                found="more than that",
                todo="cut the file into several by key; each becomes a link of its own",
            )
    found = {MemberKey.of(dict(zip(by, key, strict=True))): rows for key, rows in places.items()}
    return {key: found[key] for key in sorted(found, key=lambda key: key.canonical)}


def batches_of(batch: Batch, declaration: Declaration) -> dict[MemberKey, Batch]:
    """Return the batch of each member by its key; see `split`."""
    tables = split(batch.table, declaration)
    return {key: member_batch(table, batch) for key, table in tables.items()}


def member_batch(table: pa.Table, batch: Batch) -> Batch:
    """Return rows of a batch as a batch of their own."""
    return replace(batch, table=table, digest=content_digest(table), dropped=None)


def _values(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a key column as plain values; dates without a time of day."""
    column = decode(column)
    return column.cast(pa.date32()) if family(column.type) == "date" else column


def _check(table: pa.Table, name: str, declaration: Declaration) -> None:
    """Refuse a column of `by` that cannot be a key."""
    what = f"The declaration of {declaration.name} was refused"
    if name not in table.column_names:
        raise DeclarationRefused(
            what,
            expected="by to name columns of the schema",
            found=name,
            todo="correct the name, or add the column to the schema",
        )
    column = table.column(name)
    kind = family(decode(column).type)
    if kind not in _KINDS:
        raise DeclarationRefused(
            what,
            expected="key columns of text, integers, booleans or dates: other values are not equal exactly",
            found=f"{name!r} of type {column.type}",
            todo="declare the column of `by` with such a type",
        )
    rows = missing_rows(column)
    if rows:
        raise BatchRefused(
            f"the key column {name!r} has missing values",
            expected="a value of every key column in every row",
            found=f"{len(rows)} missing, in row {rows_text(rows)}",
            todo="fill in the values, or remove these rows",
        )


def first_member(batch: Batch, declaration: Declaration) -> Batch:
    """Return the batch of the first member: what the model is built from where any will do."""
    tables = split(batch.table, declaration)
    return member_batch(next(iter(tables.values())), batch)
