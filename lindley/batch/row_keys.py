"""Row keys: what identifies a row, so that it counts once.

A row key is a tuple of column names, or one of two names for data without such columns:

- `BY_CONTENT`: a row is identified by all its values. One file may repeat a row; a row that is equal to one
  of an earlier batch overlaps and is refused, or left out on request.
- `BY_POSITION`: a row is identified by its place in its file, so that no row of one file is a row of another.
  Only a file as a whole is recognised: the same rows again, in any order, are the same batch.

Records state the ranges of the key columns, which prove quickly that two batches share no row key.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lindley.batch.casting import cast_column, shown_value
from lindley.batch.digest import PER_SECOND, content_digest, decode, family, row_digests
from lindley.batch.schema import listed, missing_rows, rows_text
from lindley.errors import BatchRefused
from lindley.model.declaration import BY_CONTENT, BY_POSITION

#: Families that count units of a second.
_CLOCKS = ("timestamp", "timestamptz", "time", "duration")
#: Row keys that a record names at most; the digest of their table pins the others.
MOST_NAMED = 1000
#: Families of the columns that state a range for `BY_CONTENT`, and how many of them do.
_RANGED, _MOST = {"int", "float", "decimal", "date", "timestamp", "timestamptz", "time"}, 4


def order_of(table: pa.Table, key: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns that rows are sorted by: the row key, or all of them where it names none."""
    return tuple(table.column_names) if key in (BY_CONTENT, BY_POSITION) else key


def range_columns(table: pa.Table, key: Sequence[str]) -> list[str]:
    """Return the columns whose ranges can prove that two batches share no row (see `key_ranges_of`)."""
    if tuple(key) == BY_POSITION:
        return []
    if tuple(key) != BY_CONTENT:
        return [name for name in key if name in table.column_names]
    found = [name for name in table.column_names if family(table.schema.field(name).type) in _RANGED]
    return [name for name in found if not missing_rows(table.column(name))][:_MOST]


def shared_keys(table: pa.Table, key: tuple[str, ...], other: pa.Table) -> pa.Table:
    """Return the row keys of a table that occur in `other` too, sorted, one row each.

    Parameters
    ----------
    table, key
        The rows of a batch, and its row key.
    other
        Any table with the key columns, of types that can be cast to the batch's without loss.

    Raises
    ------
    BatchRefused
        If `other` lacks a key column, or holds it with a type that does not fit.
    """
    mine = _keys(table, key)
    needed = order_of(table, key)
    absent = [name for name in needed if name not in other.column_names]
    if absent:
        raise BatchRefused(
            "Row keys cannot be compared",
            expected=f"the key columns {listed(needed)} in both tables",
            found=f"a table without {listed(absent)}",
            todo="keep the row key of a chain the same, or start a new chain",
        )
    if key == BY_POSITION:
        return mine.slice(0, 0)
    cast = {name: cast_column(name, other.column(name), table.schema.field(name).type) for name in needed}
    theirs = _keys(pa.table(cast), key)
    shared = mine.join(theirs, keys=list(key), join_type="left semi")
    return shared.select(list(key)).sort_by([(name, "ascending") for name in key])


def split_by_keys(table: pa.Table, key: tuple[str, ...], keys: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Return the rows whose key is not in `keys`, and those whose key is, in their order.

    Parameters
    ----------
    table, key
        The rows of a batch, and its row key.
    keys
        Results of `shared_keys`, of one table or several.
    """
    place = "row number"  # Distinct from the key's columns, which are renamed.
    columns = [f"key {number}" for number in range(len(key))]
    mine = _keys(table, key).rename_columns(columns)
    rows = mine.append_column(place, pa.array(range(mine.num_rows), pa.int64()))
    theirs = keys.select(list(key)).rename_columns(columns)
    found = [
        rows.join(theirs, keys=columns, join_type=kind).sort_by(place).column(place)
        for kind in ("left anti", "left semi")
    ]
    kept, dropped = (table.take(numbers).combine_chunks() for numbers in found)
    return kept, dropped


def check_key(table: pa.Table, key: tuple[str, ...]) -> None:
    """Refuse row keys with gaps, and row keys that occur twice."""
    if key in (BY_CONTENT, BY_POSITION):
        return
    check_gaps(table, key)
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
            todo="remove the repeated rows, or declare a row key that distinguishes them (lindley.BY_CONTENT "
            "or lindley.BY_POSITION for rows without one)",
        )


def check_gaps(table: pa.Table, key: tuple[str, ...]) -> None:
    """Refuse key columns with missing values."""
    for name in key:
        rows = missing_rows(table.column(name))
        if rows:
            raise BatchRefused(
                f"the row key column {name!r} has missing values",
                expected="neither null nor NaN in the row key",
                found=f"{len(rows)} missing, in row {rows_text(rows)}",
                todo="fill in the values, or choose a row key that is always known",
            )


@dataclass(frozen=True)
class Changes:
    """How the rows of a batch differ from those of the batches that it replaces, by row key.

    Parameters
    ----------
    revised
        Keys of rows that both have, with other values.
    added, removed
        Keys of rows that only the batch has, or only those that it replaces.
    """

    revised: pa.Table
    added: pa.Table
    removed: pa.Table

    def as_dict(self) -> dict[str, Any]:
        """Return the changes as in the record; the first `MOST_NAMED` keys of each kind are named."""
        return {name: _named(getattr(self, name)) for name in ("revised", "added", "removed")}


def changes_between(table: pa.Table, key: tuple[str, ...], olds: Sequence[pa.Table]) -> Changes | None:
    """Return how the rows of a batch differ from those of the batches that it replaces.

    Returns
    -------
    Changes or None
        None for rows that no columns identify.
    """
    if key in (BY_CONTENT, BY_POSITION):
        return None
    mine, values = key_hashes(table, key), row_hashes(table)
    before = [key_hashes(old, key) for old in olds]
    theirs, old_values = np.concatenate(before), np.concatenate([row_hashes(old) for old in olds])
    shared, here, there = np.intersect1d(mine, theirs, assume_unique=True, return_indices=True)
    revised = here[values[here] != old_values[there]]
    removed = [
        _keys(old, key).filter(pa.array(~np.isin(hashes, shared)))
        for old, hashes in zip(olds, before, strict=True)
    ]
    keys, order = _keys(table, key), [(name, "ascending") for name in key]
    types = keys.schema
    return Changes(
        revised=keys.take(pa.array(np.sort(revised))).sort_by(order),
        added=keys.filter(pa.array(~np.isin(mine, shared))).sort_by(order),
        removed=pa.concat_tables([part.cast(types) for part in removed]).sort_by(order),
    )


def key_hashes(table: pa.Table, key: tuple[str, ...]) -> npt.NDArray[np.bytes_]:
    """Return 16 bytes for each row that stand for its key, whatever the width of its types."""
    return _hashes(_keys(table, key))


def row_hashes(table: pa.Table) -> npt.NDArray[np.bytes_]:
    """Return 16 bytes for each row that stand for all its values; see `key_hashes`."""
    return _hashes(table)


def _hashes(table: pa.Table) -> npt.NDArray[np.bytes_]:
    return np.frombuffer(b"".join(found[:16] for found in row_digests(table)), dtype="S16")


def _named(keys: pa.Table) -> dict[str, Any]:
    first = keys.slice(0, MOST_NAMED)
    texts = [[_end_text(column.type, value) for value in column] for column in first.columns]
    return {
        "rows": keys.num_rows,
        "digest": content_digest(keys),
        "keys": [list(row) for row in zip(*texts, strict=True)],
    }


def _keys(table: pa.Table, key: tuple[str, ...]) -> pa.Table:
    """Return the keys for comparison: -0.0 is 0.0, so that equal numbers are equal keys."""
    if key == BY_CONTENT:
        return pa.table({BY_CONTENT[0]: pa.array(row_digests(table), pa.binary(32))})
    if key == BY_POSITION:
        return pa.table({BY_POSITION[0]: pa.array(range(table.num_rows), pa.int64())})
    columns = {name: decode(table.column(name)) for name in key}
    return pa.table(
        {
            name: pc.add(column, pa.scalar(0.0, column.type)) if family(column.type) == "float" else column
            for name, column in columns.items()
        }
    )


def ranges_disjoint(a: Mapping[str, Sequence[str]], b: Mapping[str, Sequence[str]]) -> bool:
    """Return whether two `Batch.key_ranges` prove that no row key is in both.

    They do when the ranges of one key column are disjoint, because keys are equal only as a whole. False
    means that the keys themselves must be compared. A column whose type differs proves nothing.
    """
    for name in a.keys() & b.keys():
        try:
            (a_low, a_high), (b_low, b_high) = ([_parsed(end) for end in ranges[name]] for ranges in (a, b))
        except (ValueError, ArithmeticError):
            continue  # an edited range proves nothing
        families = {end[0] for end in (a_low, a_high, b_low, b_high)}
        if len(families) == 1 and (a_high[1] < b_low[1] or b_high[1] < a_low[1]):
            return True
    return False


def key_ranges_of(table: pa.Table, key: Sequence[str]) -> dict[str, list[str]]:
    """Return `Batch.key_ranges` of a table's columns without gaps."""
    return {name: _range_of(table.column(name)) for name in key}


def _range_of(column: pa.ChunkedArray) -> list[str]:
    """Return the ends of a column without gaps as ``family:value``."""
    kind = column.type
    if family(kind) == "duration":
        column = column.cast(pa.int64()).cast(pa.timestamp(kind.unit))  # Arrow orders no durations.
    ends = pc.min_max(column)
    return [f"{family(kind)}:{_end_text(kind, ends[end])}" for end in ("min", "max")]


def _end_text(kind: pa.DataType, end: pa.Scalar) -> str:
    name = family(kind)
    if name in _CLOCKS:
        # Whole seconds and nanoseconds: the same text whatever the unit, and no limit on years.
        seconds, ticks = divmod(end.value, PER_SECOND[kind.unit])
        whole = seconds if name in ("time", "duration") else np.datetime64(seconds, "s")
        return f"{whole}.{ticks * (10**9 // PER_SECOND[kind.unit]):09d}"
    if name == "date":
        return str(np.datetime64(end.cast(pa.date32()).value, "D"))
    if name == "binary":
        return str(end.as_py().hex())
    return repr(end.as_py()) if name == "float" else str(end.as_py())


def _parsed(text: str) -> tuple[str, Any]:
    """Return the family and an object with the order of the column."""
    name, _, value = text.partition(":")
    if name in _CLOCKS:
        whole, _, nanos = value.rpartition(".")
        seconds = whole if name in ("time", "duration") else np.datetime64(whole, "s").astype(int)
        return name, (int(seconds), int(nanos))
    if name == "date":
        return name, int(np.datetime64(value, "D").astype(int))
    parse: dict[str, Any] = {"int": int, "float": float, "decimal": Decimal}
    return name, parse.get(name, str)(value)
