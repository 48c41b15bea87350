"""Compiled functions as machine code that any thread can call: no Python, no lock of the interpreter.

A jitted function that Python calls holds the interpreter's lock, so that chains wait for each other, and
unpacks a dozen arrays at each gradient. Here a function of (x, prior, data) gets an outer function in
C's calling convention. What is constant while a target is sampled is read from one array of addresses and
lengths. PyTensor's cache on disk keeps the outer functions too (docs/adr/0022-machine-code.md).
"""

from __future__ import annotations

import ctypes
import hashlib
import itertools
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pytensor
from numba import types
from numba.core import cgutils
from pytensor.graph.basic import Variable
from pytensor.link.numba.cache import CACHED_SRC_FUNCTIONS, compile_numba_function_src
from pytensor.tensor.type import TensorType

from lindley.errors import FitFailed

_DOUBLES = types.CPointer(types.double)
#: nutpie's convention of a log density: length, x, gradient, value, data; 0 or a code.
_DENSITY = types.int64(types.uint64, _DOUBLES, _DOUBLES, _DOUBLES, types.voidptr)
#: nutpie's convention of what is stored of a draw: two lengths, x, what is stored, data.
_EXPAND = types.int64(types.uint64, types.uint64, _DOUBLES, _DOUBLES, types.voidptr)
#: Ours of a table: rows, points, outputs, data. Without rows it says the outputs' shapes.
_TABLE = types.int64(types.uint64, _DOUBLES, types.voidptr, types.voidptr)
_POINTER = ctypes.c_void_p
_CALL_DENSITY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, _POINTER, _POINTER, _POINTER, _POINTER)
_CALL_TABLE = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, _POINTER, _POINTER, _POINTER)
_DTYPES = {
    "bool": np.bool_,
    **{
        name: np.dtype(name).type
        for name in ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
    },
}
#: Fewer rows than this are not worth a thread.
_ROWS_PER_THREAD = 64


@numba.extending.intrinsic
def _as_pointer(_context: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(address), generate


@dataclass(frozen=True)
class Code:
    """A compiled outer function.

    Parameters
    ----------
    function
        numba's object, which keeps the machine code alive.
    inputs, outputs
        The graph's.
    """

    function: Any
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]

    @property
    def address(self) -> int:
        """Where the machine code stands."""
        return int(self.function.address)


def supported(variables: Sequence[Variable]) -> bool:
    """Whether variables are dense tensors of numbers, which can be passed by address."""
    return all(isinstance(v.type, TensorType) and v.type.dtype in _DTYPES for v in variables)


def density_code(jitted: Callable[..., Any], inputs: Sequence[Variable], outputs: Sequence[Variable]) -> Code:
    """Compile the outer function of a log density and its gradient, or load it from the disk.

    Parameters
    ----------
    jitted
        numba's dispatcher of the graph.
    inputs
        x, then what is constant while the target is sampled.
    outputs
        The log density and its gradient by x.
    """
    size = inputs[0].type.shape[0]
    lines = [
        "def log_density(size, x_, gradient_, value_, data_):",
        f"    if size != {size}:",
        "        return -1",
        *_arguments(inputs[1:]),
        # The last word: one row for the sampler, more for a table of points.
        f"    rows = int64(data[{_words(inputs[1:])}])",
        f"    points = carray(x_, (rows, {size}))",
        "    code = 0",
        "    for row in range(rows):",
        "        try:",
        f"            value, gradient = jitted(points[row], {_names(inputs[1:])})",
        "            value_[row] = asarray(value)[()]",
        "            finite = isfinite(value_[row])",
        f"            for i in range({size}):",
        f"                gradient_[row * {size} + i] = gradient[i]",
        "                finite = finite and isfinite(gradient[i])",
        # A positive code ends the trajectory as a divergence, not the sampler.
        "            if not finite:",
        "                code = 4",
        "        except Exception:",
        "            code = 1",
        "    return code",
    ]
    return Code(_compiled("log_density", lines, jitted, _DENSITY), tuple(inputs), tuple(outputs))


def table_code(jitted: Callable[..., Any], inputs: Sequence[Variable], outputs: Sequence[Variable]) -> Code:
    """Compile the outer function that evaluates a graph at many points, or load it from the disk.

    Parameters
    ----------
    jitted
        numba's dispatcher of the graph.
    inputs
        x, then what is the same for all points.
    outputs
        What is computed at each point.
    """
    size = inputs[0].type.shape[0]
    names = [f"out{i}" for i in range(len(outputs))]
    lines = [
        "def table(rows, points_, outputs_, data_):",
        f"    points = carray(points_, (max(int64(rows), 1), {size}))",
        f"    outputs = carray(outputs_, ({max(_words(outputs), 1)},), uint64)",
        *_arguments(inputs[1:]),
        "    try:",
        "        for i in range(max(int64(rows), 1)):",
        f"            {', '.join(names)}, = jitted(points[i], {_names(inputs[1:])})",
        "            if rows == 0:",
        *_shapes(names, outputs),
        "            else:",
        *_rows(names, outputs),
        "    except Exception:",
        "        return 1",
        "    return 0",
    ]
    return Code(_compiled("table", lines, jitted, _TABLE), tuple(inputs), tuple(outputs))


def _arguments(inputs: Sequence[Variable]) -> list[str]:
    """Return source that makes arrays of addresses and lengths."""
    lines, at = [f"    data = carray(data_, ({_words(inputs) + 1},), uint64)"], 0
    for i, variable in enumerate(inputs):
        lengths = "".join(f"int64(data[{at + 1 + axis}]), " for axis in range(variable.type.ndim))
        lines.append(f"    a{i} = carray(as_pointer(data[{at}]), ({lengths}), {variable.type.dtype})")
        at += 1 + variable.type.ndim
    return lines


def _words(variables: Sequence[Variable]) -> int:
    """Return how many words the addresses and lengths of variables take."""
    return sum(1 + v.type.ndim for v in variables)


def _names(inputs: Sequence[Variable]) -> str:
    return ", ".join(f"a{i}" for i in range(len(inputs)))


def _shapes(names: list[str], outputs: Sequence[Variable]) -> list[str]:
    """Return source that writes the outputs' shapes behind their addresses."""
    lines, at = ["                pass"], 0
    for name, output in zip(names, outputs, strict=True):
        lines += [
            f"                outputs[{at + 1 + axis}] = {name}.shape[{axis}]"
            for axis in range(output.type.ndim)
        ]
        at += 1 + output.type.ndim
    return lines


def _rows(names: list[str], outputs: Sequence[Variable]) -> list[str]:
    """Return source that writes a row of each output."""
    lines, at = ["                pass"], 0
    for name, output in zip(names, outputs, strict=True):
        ndim = output.type.ndim
        lengths = "".join(f"int64(outputs[{at + 1 + axis}]), " for axis in range(ndim))
        found = name if ndim else f"asarray({name})[()]"
        lines.append(
            f"                carray(as_pointer(outputs[{at}]), (int64(rows), {lengths}), "
            f"{output.type.dtype})[i] = {found}"
        )
        at += 1 + ndim
    return lines


def _compiled(name: str, lines: list[str], jitted: Any, signature: Any) -> Any:
    """Compile source to a function of C, kept on disk where PyTensor keeps the function inside."""
    source = "\n".join(lines)
    inside = CACHED_SRC_FUNCTIONS.get(jitted.py_func) if jitted is not None else name
    key = None
    if inside is not None:
        parts = (source, inside, pytensor.__version__, numba.__version__)
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    scope = {
        # numba imports the module of a function that it loads from its cache.
        "__name__": __name__,
        "jitted": jitted,
        "carray": numba.carray,
        "as_pointer": _as_pointer,
        "asarray": np.asarray,
        "isfinite": np.isfinite,
        "uint64": np.uint64,
        **_DTYPES,
    }
    function = compile_numba_function_src(source, name, scope, cache_key=key)
    with warnings.catch_warnings():
        # Of operations in object mode, and of code that cannot be kept because it holds an address.
        warnings.simplefilter("ignore")
        return numba.cfunc(signature, cache=key is not None)(function)


_expand: list[Any] = []


def expand() -> Any:
    """Return the function that stores a draw as it is."""
    if not _expand:
        lines = [
            "def expand(size, stored, x_, out_, data_):",
            "    for i in range(stored):",
            "        out_[i] = x_[i]",
            "    return 0",
        ]
        _expand.append(_compiled("expand", lines, None, _EXPAND))
    return _expand[0]


class Words:
    """Addresses and lengths of arrays, which are kept alive.

    Parameters
    ----------
    arrays
        Arrays by input.
    inputs
        What they are passed for: element types are converted to the inputs' own.
    """

    def __init__(self, arrays: Sequence[np.ndarray], inputs: Sequence[Variable]) -> None:
        self._arrays: list[np.ndarray] = [
            np.array(array, dtype=_DTYPES[v.type.dtype], order="C", copy=None)
            for array, v in zip(arrays, inputs, strict=True)
        ]
        self._words = [word for array in self._arrays for word in (array.ctypes.data, *array.shape)]

    def array(self, rows: int) -> np.ndarray:
        """Return the words, and how many rows a call is about."""
        return np.array([*self._words, rows], dtype=np.uint64)


class Density:
    """A log density with its prior and data, as machine code.

    Parameters
    ----------
    code
        See `density_code`.
    arrays
        What is constant while it is sampled, by input.
    """

    def __init__(self, code: Code, arrays: Sequence[np.ndarray]) -> None:
        self.code = code
        self.words = Words(arrays, code.inputs[1:])
        self.size = int(code.inputs[0].type.shape[0])
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

        _in_threads(some, len(points))
        return values, gradients


class Table:
    """Quantities at many points, with prior and data, as machine code.

    Parameters
    ----------
    code
        See `table_code`.
    arrays
        What is the same for all points, by input.
    """

    def __init__(self, code: Code, arrays: Sequence[np.ndarray]) -> None:
        self._words = Words(arrays, code.inputs[1:])
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
            np.empty((len(points), *shape), dtype=_DTYPES[v.type.dtype])
            for shape, v in zip(shapes, self._code.outputs, strict=True)
        ]

        def some(rows: range) -> None:
            words = [w for a in found for w in (a.ctypes.data + rows.start * a.strides[0], *a.shape[1:])]
            start = points.ctypes.data + rows.start * points.strides[0]
            self._run(len(rows), start, np.array(words, dtype=np.uint64))

        _in_threads(some, len(points))
        return tuple(found)

    def _shapes(self, point: np.ndarray) -> list[tuple[int, ...]]:
        """Return the outputs' shapes at a point."""
        words = np.zeros(max(_words(self._code.outputs), 1), dtype=np.uint64)
        self._run(0, point.ctypes.data, words)
        shapes, at = [], 0
        for variable in self._code.outputs:
            stop = at + 1 + variable.type.ndim
            shapes.append(tuple(int(n) for n in words[at + 1 : stop]))
            at = stop
        return shapes

    def _run(self, rows: int, points: int, outputs: np.ndarray) -> None:
        if self._call(rows, points, outputs.ctypes.data, self._fixed.ctypes.data):
            raise FitFailed(
                "The model's quantities cannot be computed at a draw",
                expected="deterministics and likelihood terms that exist, in the same shapes, at every draw",
                found="a computation that raised",
                todo="check the model's deterministics on this batch: solvers, decompositions, shapes",
            )


def _in_threads(some: Callable[[range], None], rows: int) -> None:
    """Do rows in as many threads as there are cores; the machine code needs no interpreter."""
    threads = min(os.cpu_count() or 1, 4, rows // _ROWS_PER_THREAD)
    if threads < 2:
        some(range(rows))
        return
    cuts = [rows * i // threads for i in range(threads + 1)]
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(some, [range(a, b) for a, b in itertools.pairwise(cuts)]))
