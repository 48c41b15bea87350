"""Ranges of row keys, as records state them: they prove quickly that two batches share no row key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lindley.batch.digest import PER_SECOND, family

#: Families that count units of a second.
_CLOCKS = ("timestamp", "timestamptz", "time", "duration")


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
