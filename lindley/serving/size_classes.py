"""What a prediction needs beside its rows, kept for frames of equal length and types.

Only for build functions that pass columns on (`lindley.serving.straight`): their graph is the same for all
these frames, and its data are columns. Which column is which data is found with values that tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from lindley.cache import Recent
from lindley.inference.predictive import Prepared
from lindley.model.declaration import Declaration
from lindley.serving.labels import Values
from lindley.serving.rows import Inputs
from lindley.serving.straight import used_columns

#: Bytes that a belief keeps for its size classes.
_KEPT = 2**26


class Predictive(NamedTuple):
    """What a prediction needs.

    Parameters
    ----------
    prepared
        How to draw.
    data
        The data of a frame.
    values
        Draws of the parameters.
    size
        Number of predicted values.
    model
        The model that it was made of.
    """

    prepared: Prepared
    data: list[np.ndarray]
    values: Values
    size: int
    model: Any


@dataclass(frozen=True)
class _Data:
    """Where an array of a graph's data comes from: columns of the frame, or itself where there are none."""

    array: np.ndarray
    columns: tuple[str, ...] = ()

    def of(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        if not self.columns:
            return self.array
        found = [columns[name].astype(self.array.dtype) for name in self.columns]
        return found[0] if self.array.ndim == 1 else np.stack(found, axis=1)


@dataclass(frozen=True)
class _SizeClass:
    prepared: Prepared
    values: Values
    size: int
    model: Any
    data: tuple[_Data, ...]

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + sum(each.array.nbytes for each in self.data)


class SizeClasses:
    """The size classes of a belief.

    Parameters
    ----------
    declaration
        The chain's.
    build
        Returns what `of` does for a frame, by building its model.
    """

    def __init__(self, declaration: Declaration, build: Callable[[pd.DataFrame], Predictive]) -> None:
        self._build = build
        used = used_columns(declaration)
        self._used = None if used is None else tuple(sorted(used))
        self._kept: Recent[tuple[_SizeClass | None]] = Recent(
            _KEPT, lambda held: 4096 + (held[0].nbytes if held[0] else 0)
        )

    def of(self, read: Inputs) -> Predictive | None:
        """Return what a prediction needs without building the inputs' model; None where that cannot be."""
        columns = None if self._used is None else read.columns(self._used)
        if columns is None or not all(map(_comparable, columns.values())):
            return None
        key = (len(read.order), *((name, columns[name].dtype.str) for name in columns))
        found = self._kept.get(key, lambda: (self._made(read.frame),))[0]
        if found is None:
            return None
        data = [each.of(columns) for each in found.data]
        return Predictive(found.prepared, data, found.values, found.size, found.model)

    def _made(self, frame: pd.DataFrame) -> _SizeClass | None:
        """Find out which columns are the data of the models of frames like this one."""
        used = self._used or ()
        probe = frame.assign(**{name: _distinct(frame[name], place) for place, name in enumerate(used)})
        try:
            prepared, arrays, values, size, model = self._build(probe)
            data = tuple(_source(array, probe, used) for array in arrays)
            again, given, *_ = self._build(frame)
        except Exception:  # what is wrong is found again, and said, where the model is built for the answer
            return None
        held = {name: frame[name].to_numpy() for name in used}
        same = all(np.array_equal(each.of(held), array) for each, array in zip(data, given, strict=True))
        if again is not prepared or not same:
            return None
        return _SizeClass(prepared, values, size, model, data)


def _comparable(column: np.ndarray) -> bool:
    """Whether a column holds numbers, none of them missing: PyMC imputes missing outcomes."""
    kind = column.dtype
    if kind.kind not in "iuf" or kind.itemsize < 4:
        return False
    return kind.kind != "f" or bool(np.isfinite(column).all())


def _distinct(column: pd.Series[Any], place: int) -> np.ndarray:
    """Return values that no other column has."""
    start = 1_000_003 + place * (len(column) + 1)
    return (start + np.arange(len(column))).astype(column.to_numpy().dtype)


def _source(array: np.ndarray, frame: pd.DataFrame, used: Sequence[str]) -> _Data:
    """Return which columns of a frame with distinct values an array is."""
    if not array.ndim or len(array) != len(frame) or array.ndim > 2 or not array.size:
        return _Data(array)
    found = []
    for values in array.reshape(len(array), -1).T:
        names = [name for name in used if np.array_equal(values, frame[name].to_numpy().astype(array.dtype))]
        if len(names) != 1:
            return _Data(array)
        found += names
    return _Data(array[:0] if array.ndim == 1 else array[:0, :0], tuple(found))
