"""Rows to predict for as columns of values, and what is read of them quickly: plain numbers without gaps.

Checks of a frame against a schema take milliseconds, whatever its length; half of a short request was spent
there. Columns of JSON's or NumPy's numbers that fit a schema of numbers need none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lindley.batch.row_keys import order_of
from lindley.model.declaration import Declaration

#: Whole numbers up to here are real numbers without loss, by bytes.
_EXACT = {4: 2**24, 8: 2**53}
#: Stands in for outcomes (as in `lindley.serving.inputs`).
_NEUTRAL = {"i": 0, "f": 0.5}


class Rows:
    """Rows to predict for: a column of values for each name, all of one length.

    Parameters
    ----------
    columns
        Lists of JSON's values, or arrays.

    Raises
    ------
    ValueError
        If the columns have different lengths.
    """

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self.columns = dict(columns)
        lengths = {len(values) for values in self.columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of the same length, not of {', '.join(map(str, sorted(lengths)))}")
        self._length = lengths.pop() if lengths else 0

    @classmethod
    def of(cls, frame: pd.DataFrame) -> Rows | None:
        """Return a frame's columns; None where names or an index say more than they do."""
        names = list(frame.columns)
        named = any(name is not None for name in frame.index.names)
        if named or len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
            return None
        found = cls({})
        found.columns, found._length = {name: _values(frame[name]) for name in names}, len(frame)
        found.__dict__["frame"] = frame
        return found

    def __len__(self) -> int:
        """Return the number of rows."""
        return self._length

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows as a frame."""
        return pd.DataFrame(self.columns)


@dataclass(frozen=True)
class Inputs:
    """Rows to predict for, checked.

    Parameters
    ----------
    held
        The rows as `build` takes them, sorted as in a batch; neutral values stand in for missing outcomes.
    order
        Position in the rows as given, by position in `held`.
    keys
        Columns of the row key as they were given.
    without
        Columns of the row key that were not given: `held` does not have them.
    """

    held: pd.DataFrame | dict[str, np.ndarray]
    order: np.ndarray
    keys: dict[str, Any]
    without: tuple[str, ...]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The rows as `build` takes them."""
        return pd.DataFrame(self.held) if isinstance(self.held, dict) else self.held

    def columns(self, names: Sequence[str]) -> dict[str, np.ndarray] | None:
        """Return some columns; None where one is not there or is of no plain numpy type."""
        if not all(name in self.held for name in names):
            return None
        found = {name: self.held[name] for name in names}
        if any(not isinstance(values.dtype, np.dtype) for values in found.values()):
            return None
        return {name: np.asarray(values) for name, values in found.items()}


class Numbers:
    """Reads rows of a schema of numbers, as `lindley.serving.inputs.read_inputs` does, or leaves it to that.

    Parameters
    ----------
    declaration
        The chain's.
    """

    def __init__(self, declaration: Declaration) -> None:
        self._declaration = declaration
        schema = declaration.schema
        fields = list(schema) if isinstance(schema, pa.Schema) else []
        self._kinds = {field.name: field.type for field in fields}
        plain = all(_is_number(kind) for kind in self._kinds.values())
        names = {*declaration.observed, *declaration.row_key, *(declaration.order_by or ())}
        self._able = bool(fields) and plain and names <= {*self._kinds, *_PSEUDO}
        free = {*declaration.observed, *declaration.row_key}
        self._required = {name for name in self._kinds if name not in free}

    def read(self, rows: Rows) -> Inputs | None:
        """Return the rows, checked; None where they are not all plain numbers that fit."""
        if not self._able or not len(rows):
            return None
        given = rows.columns
        if not (self._required <= given.keys() <= self._kinds.keys()):
            return None
        found = {}
        for name, values in given.items():
            array = _number(values, self._kinds[name])
            if array is None:
                return None
            found[name] = array
        declared = self._declaration
        without = tuple(n for n in declared.row_key if n in self._kinds and n not in given)
        order = self._order(found, len(rows))
        held = {}
        for name, kind in self._kinds.items():
            if name in found:
                held[name] = found[name][order]
            elif name in declared.observed:
                held[name] = np.full(len(rows), _NEUTRAL["f" if pa.types.is_floating(kind) else "i"])
        keys = {name: given[name] for name in declared.row_key if name in given}
        return Inputs(held, order, keys, without)

    def _order(self, found: dict[str, np.ndarray], count: int) -> np.ndarray:
        """Return the order of a batch, ties as Arrow sorts them."""
        declared = self._declaration
        ordered = [name for name in self._kinds if name in found]
        every = pa.table({name: pa.array(found[name], self._kinds[name]) for name in ordered})
        by = (*(declared.order_by or ()), *order_of(every, tuple(declared.row_key)))
        keys = [(name, "ascending") for name in dict.fromkeys(by) if name in found]
        if not keys:
            return np.arange(count)
        first = found[keys[0][0]]
        if (first[1:] > first[:-1]).all():
            return np.arange(count)
        found_order: np.ndarray = pc.sort_indices(every, sort_keys=keys).to_numpy()
        return found_order


def _values(column: pd.Series[Any]) -> Any:
    """Return the values of a frame's column, as NumPy's array where it is one."""
    return column.to_numpy() if isinstance(column.dtype, np.dtype) else column.array


#: Row keys that are no columns.
_PSEUDO = ("(content)", "(position)")


def _is_number(kind: pa.DataType) -> bool:
    """Whether a frame has a type's values as int64 or float64."""
    whole = pa.types.is_integer(kind) and not pa.types.is_uint64(kind)
    return whole or pa.types.is_float32(kind) or pa.types.is_float64(kind)


def _number(values: Any, kind: pa.DataType) -> np.ndarray | None:
    """Return a column as a frame of a batch has it; None where it takes more than that to read it."""
    array = _array(values)
    if array is None:
        return None
    narrow = kind.to_pandas_dtype()
    if pa.types.is_floating(kind):
        exact = _EXACT[np.dtype(narrow).itemsize]
        if array.dtype.kind == "i" and (array.min() < -exact or array.max() > exact):
            return None
        with np.errstate(over="ignore"):
            found = array.astype(narrow).astype(np.float64)
        return found if np.isfinite(found).all() else None
    limits = np.iinfo(narrow)
    if array.dtype.kind != "i" or array.min() < limits.min or array.max() > limits.max:
        return None
    return array


def _array(values: Any) -> np.ndarray | None:
    """Return values as int64 or float64, if that is what they are."""
    dtype = getattr(values, "dtype", None)
    if isinstance(dtype, np.dtype) and dtype in (np.int64, np.float64):
        return np.asarray(values)
    if isinstance(dtype, np.dtype) and dtype.kind == "O":
        values = values.tolist()
    if not isinstance(values, list):
        return None
    kinds = set(map(type, values))
    if kinds not in ({int}, {float}):
        return None
    try:
        return np.array(values, np.int64 if kinds == {int} else np.float64)
    except OverflowError:
        return None
