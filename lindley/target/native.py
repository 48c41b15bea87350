"""Compiled functions as machine code that any thread can call: no Python, no lock of the interpreter.

A jitted function called from Python holds the interpreter's lock, so that chains wait for each other, and
unpacks a dozen arrays at each gradient. Here a function of (x, prior, data) gets an outer function in C's
calling convention. Everything that is constant while a target is sampled is read from one array of addresses
and lengths. PyTensor's cache on disk keeps the outer functions too (docs/adr/0022-machine-code.md).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from typing import Any

import numba
import numpy as np
import pytensor
from llvmlite import ir
from numba import types
from pytensor.graph.basic import Variable
from pytensor.tensor.type import TensorType

from lindley.target._compat import cache_key, compile_source

VOID_POINTER = ir.IntType(8).as_pointer()
DOUBLES = types.CPointer(types.double)
#: nutpie's convention of a log density: length, x, gradient, value, data; 0 or a code.
DENSITY = types.int64(types.uint64, DOUBLES, DOUBLES, DOUBLES, types.voidptr)
#: nutpie's convention of what is stored of a draw: two lengths, x, the stored values, data.
_EXPAND = types.int64(types.uint64, types.uint64, DOUBLES, DOUBLES, types.voidptr)
#: Lindley's convention of a table: rows, points, outputs, data. With 0 rows it returns the outputs' shapes.
_TABLE = types.int64(types.uint64, DOUBLES, types.voidptr, types.voidptr)
DTYPES = {
    "bool": np.bool_,
    **{
        name: np.dtype(name).type
        for name in ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")
    },
}


@numba.extending.intrinsic
def as_pointer(_context: Any, address: Any) -> Any:
    """Return an address as a pointer."""

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], VOID_POINTER)

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
        """Address of the machine code."""
        return int(self.function.address)


def supported(variables: Sequence[Variable]) -> bool:
    """Whether variables are dense tensors of numbers, which can be passed by address."""
    return all(isinstance(v.type, TensorType) and v.type.dtype in DTYPES for v in variables)


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
        *arguments(inputs[1:]),
        # The last word: one row for the sampler, more for a table of points.
        f"    rows = int64(data[{words_of(inputs[1:])}])",
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
    function = c_function("log_density", lines, DENSITY, inside=cache_key(jitted), jitted=jitted)
    return Code(function, tuple(inputs), tuple(outputs))


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
        f"    outputs = carray(outputs_, ({max(words_of(outputs), 1)},), uint64)",
        *arguments(inputs[1:]),
        "    code = 0",
        "    try:",
        "        for i in range(max(int64(rows), 1)):",
        f"            {', '.join(names)}, = jitted(points[i], {_names(inputs[1:])})",
        "            if rows == 0:",
        *_shapes(names, outputs),
        "            else:",
        *_rows(names, outputs),
        "    except Exception:",
        "        code = 1",
        "    return code",
    ]
    function = c_function("table", lines, _TABLE, inside=cache_key(jitted), jitted=jitted)
    return Code(function, tuple(inputs), tuple(outputs))


def arguments(inputs: Sequence[Variable], numbers: int = 0) -> list[str]:
    """Return source that makes arrays of addresses and lengths; so many words more follow, and one."""
    found = (_array("data", at, v) for v, at in zip(inputs, starts(inputs), strict=False))
    made = [f"    a{i} = {array}" for i, array in enumerate(found)]
    return [f"    data = carray(data_, ({words_of(inputs) + numbers + 1},), uint64)", *made]


def starts(variables: Sequence[Variable]) -> list[int]:
    """Return where the words of each variable start, address before lengths, and where the last ones end."""
    return [0, *accumulate(1 + v.type.ndim for v in variables)]


def words_of(variables: Sequence[Variable]) -> int:
    """Return how many words the addresses and lengths of variables take."""
    return starts(variables)[-1]


def _array(words: str, at: int, variable: Variable, rows: str = "") -> str:
    """Return source of the array whose address and lengths stand at a place of some words."""
    lengths = "".join(f"int64({words}[{at + 1 + axis}]), " for axis in range(variable.type.ndim))
    return f"carray(as_pointer({words}[{at}]), ({rows}{lengths}), {variable.type.dtype})"


def _names(inputs: Sequence[Variable]) -> str:
    return ", ".join(f"a{i}" for i in range(len(inputs)))


def _shapes(names: list[str], outputs: Sequence[Variable]) -> list[str]:
    """Return source that writes the outputs' shapes behind their addresses."""
    return ["                pass"] + [
        f"                outputs[{at + 1 + axis}] = {name}.shape[{axis}]"
        for name, output, at in zip(names, outputs, starts(outputs), strict=False)
        for axis in range(output.type.ndim)
    ]


def _rows(names: list[str], outputs: Sequence[Variable]) -> list[str]:
    """Return source that writes a row of each output."""
    lines = ["pass"]
    for name, output, at in zip(names, outputs, starts(outputs), strict=False):
        lines.append(f"row_{name} = {_array('outputs', at, output, 'int64(rows), ')}")
        lines += _written(name, output.type.ndim)
    return [f"{' ' * 16}{line}" for line in lines]


def _written(name: str, axes: int) -> list[str]:
    """Return source that writes an output to row i of its table, if it has the shape of the first row's.

    Element by element: of an assignment of arrays numba compiles the text of its error message too, which
    takes as long as the function. There is no `return` inside `try`: numba would not catch exceptions.
    """
    if not axes:
        return [f"row_{name}[i] = asarray({name})[()]"]
    place = ", ".join(f"j{axis}" for axis in range(axes))
    return [
        f"if {name}.shape != row_{name}.shape[1:]:",
        "    code = 1",
        "else:",
        *(f"{'    ' * (axis + 1)}for j{axis} in range({name}.shape[{axis}]):" for axis in range(axes)),
        f"{'    ' * (axes + 1)}row_{name}[i, {place}] = {name}[{place}]",
    ]


def c_function(name: str, lines: list[str], signature: Any, *, inside: str | None, **scope: Any) -> Any:
    """Compile source to a function of C, kept on disk where PyTensor keeps the functions inside.

    Parameters
    ----------
    name, lines
        Of the function.
    signature
        numba's.
    inside
        Identifies the code of the functions that it calls; None where PyTensor does not keep it.
    scope
        Other names that the source uses.
    """
    source = "\n".join(lines)
    key = None
    if inside is not None:
        # numba imports the module of a function that it loads from its cache: its name is in the key.
        parts = (source, inside, __name__, pytensor.__version__, numba.__version__)
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    scope |= {
        "__name__": __name__,
        "carray": numba.carray,
        "as_pointer": as_pointer,
        "asarray": np.asarray,
        "isfinite": np.isfinite,
        "uint64": np.uint64,
        **DTYPES,
    }
    function = compile_source(source, name, scope, key)
    with warnings.catch_warnings():
        # numba warns of operations in object mode, and of code that holds an address, which it cannot keep.
        warnings.simplefilter("ignore")
        return numba.cfunc(signature, cache=key is not None)(function)


@cache
def expand() -> Any:
    """Return the function that stores a draw as it is."""
    lines = [
        "def expand(size, stored, x_, out_, data_):",
        "    for i in range(stored):",
        "        out_[i] = x_[i]",
        "    return 0",
    ]
    return c_function("expand", lines, _EXPAND, inside="expand")
