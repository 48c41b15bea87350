"""Calls of machine code with its data: densities and tables of quantities (see `lindley.target.native`)."""

from __future__ import annotations

import ctypes
import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from pytensor.graph.basic import Variable

from lindley.errors import FitFailed
from lindley.target.native import DTYPES, Code, starts

_POINTER = ctypes.c_void_p
_CALL_DENSITY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, _POINTER, _POINTER, _POINTER, _POINTER)
_CALL_TABLE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, _POINTER, _POINTER, _POINTER)
#: Threads at most.
_threads: ContextVar[int] = ContextVar("threads", default=4)
#: Fewer rows than this are not worth a thread.
_ROWS_PER_THREAD = 64


@dataclass(frozen=True)
class Words:
    """The constant arguments of a function in C: addresses, lengths and numbers.

    Parameters
    ----------
    words
        The arguments, in the order in which the function reads them.
    kept
        What stands at the addresses: it is kept alive.
    """

    words: Sequence[int]
    kept: Any

    @classmethod
    def of(cls, arrays: Sequence[np.ndarray], inputs: Sequence[Variable]) -> Self:
        """Return addresses and lengths of arrays by input; element types are converted to the inputs'."""
        kept: list[np.ndarray] = [
            np.array(array, dtype=DTYPES[v.type.dtype], order="C", copy=None)
            for array, v in zip(arrays, inputs, strict=True)
        ]
        return cls([word for array in kept for word in (array.ctypes.data, *array.shape)], kept)

    def array(self, rows: int) -> np.ndarray:
        """Return the words, and how many rows a call is about."""
        return np.array([*self.words, rows], dtype=np.uint64)


class Density:
    """A log density with its prior and data, as machine code.

    Parameters
    ----------
    code
        Something with an `address`, in the sampler's calling convention.
    words
        Its constant arguments.
    size
        Length of x.
    """

    def __init__(self, code: Code, words: Words, size: int) -> None:
        self.code, self.words, self.size = code, words, size
        self._call = _CALL_DENSITY(code.address)

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the log density at x [x] and its gradient [x]."""
        values, gradients = self.at(np.asarray(x, dtype=float)[None])
        return float(values[0]), gradients[0]

    def at(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log densities [point] and gradients [point, x] at points [point, x].

        Where the function raises both are NaN.
        """
        points = np.array(points, dtype=float, order="C", copy=None)
        values, gradients = np.full(len(points), np.nan), np.full(points.shape, np.nan)

        def some(rows: range) -> None:
            words = self.words.array(len(rows))
            arrays = (points, gradients, values)
            addresses = [a.ctypes.data + rows.start * a.strides[0] for a in arrays]
            self._call(self.size, *addresses, words.ctypes.data)

        in_threads(some, len(points))
        return values, gradients

    def over(
        self, x: np.ndarray, values: Mapping[int, np.ndarray], count: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return log densities [row] and gradients [row, x] at one x [x] with other data in each row.

        Parameters
        ----------
        x
            The point.
        values
            By the place of a constant array its values in each row, arrays [row, ...]. The density keeps
            those of the last row.
        count
            Number of rows.
        """
        point = np.array(x, dtype=float, order="C")
        found, gradients = np.full(count, np.nan), np.full((count, len(point)), np.nan)
        words, call, size = self.words.array(1), self._call, self.size
        held = [(self.words.kept[place], rows) for place, rows in values.items()]
        at, constants = point.ctypes.data, words.ctypes.data
        slopes, heights = gradients.ctypes.data, found.ctypes.data
        for row in range(count):
            for array, rows in held:
                array[...] = rows[row]
            call(size, at, slopes + row * gradients.strides[0], heights + row * 8, constants)
        return found, gradients


class Table:
    """Quantities at many points, with prior and data, as machine code.

    Parameters
    ----------
    code
        See `table_code`.
    arrays
        Arrays that are the same for all points, by input.
    """

    def __init__(self, code: Code, arrays: Sequence[np.ndarray]) -> None:
        self._words = Words.of(arrays, code.inputs[1:])
        self._fixed = self._words.array(0)
        self._code = code
        self._call = _CALL_TABLE(code.address)

    def at(self, points: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return an array [point, ...] for each output at points [point, x].

        Raises
        ------
        FitFailed
            If a quantity cannot be computed, or has other shapes at other points.
        """
        points = np.array(points, dtype=float, order="C", copy=None)
        shapes = self._shapes(points[:1])
        found: list[np.ndarray] = [
            np.empty((len(points), *shape), dtype=DTYPES[v.type.dtype])
            for shape, v in zip(shapes, self._code.outputs, strict=True)
        ]

        def some(rows: range) -> None:
            words = [w for a in found for w in (a.ctypes.data + rows.start * a.strides[0], *a.shape[1:])]
            start = points.ctypes.data + rows.start * points.strides[0]
            self._run(len(rows), start, np.array(words, dtype=np.uint64))

        in_threads(some, len(points))
        return tuple(found)

    def _shapes(self, point: np.ndarray) -> list[tuple[int, ...]]:
        """Return the outputs' shapes at a point."""
        places = starts(self._code.outputs)
        words = np.zeros(max(places[-1], 1), dtype=np.uint64)
        self._run(0, point.ctypes.data, words)
        return [tuple(words[at + 1 : stop].tolist()) for at, stop in itertools.pairwise(places)]

    def _run(self, rows: int, points: int, outputs: np.ndarray) -> None:
        if self._call(rows, points, outputs.ctypes.data, self._fixed.ctypes.data):
            raise not_computed()


def not_computed() -> FitFailed:
    """Return the error of quantities that cannot be computed at some draw."""
    return FitFailed(
        "The model's quantities cannot be computed at a draw",
        expected="deterministics and likelihood terms that exist, in the same shapes, at every draw",
        found="a computation that raised",
        todo="check the model's deterministics on this batch: solvers, decompositions, shapes",
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Evaluate many points in the calling thread: where processes share the cores, more of them only cost."""
    token = _threads.set(1)
    try:
        yield
    finally:
        _threads.reset(token)


def in_threads(some: Callable[[range], None], rows: int) -> None:
    """Process rows in as many threads as there are cores; the machine code needs no interpreter."""
    threads = min(os.cpu_count() or 1, _threads.get(), rows // _ROWS_PER_THREAD)
    if threads < 2:
        some(range(rows))
        return
    cuts = [rows * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, [range(a, b) for a, b in itertools.pairwise(cuts)]))
