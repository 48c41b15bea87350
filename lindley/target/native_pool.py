"""Several batches in one target as machine code; see `lindley.target.pool` for what it computes.

Each batch's term is compiled by itself, with an outer function in C's calling convention that takes its
coordinates, its local variables and the cotangent of its state. One driver, the same for all models, calls
them by address, batch after batch forwards for state and backwards for values and gradients. A pool of
other batches is then another table of addresses, and nothing is compiled for it.
"""

from __future__ import annotations

import ctypes
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numpy import float64, int64, isfinite, nan, uint64, zeros
from pytensor.graph.basic import Variable

from lindley.target.native import DENSITY, DOUBLES, Code, arguments, as_pointer, c_function, words_of
from lindley.target.native_calls import Density, Words, in_threads, not_computed

#: Ours of a part: three vectors that vary, what comes out, one after the other, and data; 0 or a code.
_PART = types.int64(DOUBLES, DOUBLES, DOUBLES, DOUBLES, types.voidptr)
#: Ours of a part at many points: how many, and the words that `_many` reads.
_MANY = types.int64(types.uint64, types.voidptr)
_CALL_MANY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p)
carray = numba.carray  # under the name that compiled source uses
_drivers: dict[str, Code] = {}


@dataclass(frozen=True)
class Part:
    """A compiled part with its data.

    Parameters
    ----------
    code
        See `part_code`.
    data
        Its constant inputs.
    """

    code: Code
    data: Words


@dataclass(frozen=True)
class Piece:
    """One batch in a pool; see `lindley.target.pool.BatchTerm`.

    Parameters
    ----------
    term, state
        Give the term with its gradients, and the state that passes on; no state is None.
    at, state_at
        Arrays [coordinate of the model] and [state] of positions in the vector of all coordinates.
    local
        Where its local variables stand in the sampler's vector.
    """

    term: Part
    state: Part | None
    at: np.ndarray
    state_at: np.ndarray
    local: slice


@dataclass(frozen=True)
class Whitened:
    """What takes whitened points to coordinates.

    Parameters
    ----------
    forward, back
        Give u(z), and the gradient by z of u(z) . pull.
    constant, weight
        The log density of z is constant - weight z . z / 2.
    """

    forward: Part
    back: Part
    constant: float
    weight: float


def part_code(
    jitted: Callable[..., Any],
    inputs: Sequence[Variable],
    outputs: Sequence[Variable],
    varying: Mapping[int, int],
) -> Code:
    """Compile the outer function of a part, or load it from the disk.

    Parameters
    ----------
    jitted
        numba's dispatcher of the graph.
    inputs, outputs
        The graph's; outputs are of doubles.
    varying
        Which input each of three vectors is (0, 1, 2: its position); the others come as data.
    """
    fixed = [v for i, v in enumerate(inputs) if i not in varying.values()]
    names = {index: f"v{slot}" for slot, index in varying.items()}
    constant = (f"a{i}" for i in range(len(fixed)))
    given = [names.get(i) or next(constant) for i in range(len(inputs))]
    vectors = [f"    v{slot} = carray(v{slot}_, ({inputs[i].type.shape[0]},))" for slot, i in varying.items()]
    found = [f"out{i}" for i in range(len(outputs))]
    lines = [
        "def part(v0_, v1_, v2_, out_, data_):",
        *arguments(fixed),
        *vectors,
        # The last word says how many numbers there is room for.
        f"    room, at = int64(data[{words_of(fixed)}]), 0",
        "    try:",
        f"        {', '.join(found)}, = jitted({', '.join(given)})",
    ]
    for name, output in zip(found, outputs, strict=True):
        lines += _written(name, output.type.ndim)
    lines += ["    except Exception:", "        return 1", "    return 0 if at == room else 2"]
    function = c_function("part", lines, jitted, _PART)
    return Code(function, (*(inputs[i] for i in varying.values()), *fixed), tuple(outputs))


def _written(name: str, ndim: int) -> list[str]:
    """Return source that writes an output behind those before it, as far as there is room."""
    if ndim == 0:
        return ["        if at < room:", f"            out_[at] = asarray({name})[()]", "        at += 1"]
    return [
        # By index: an iterator over a temporary array would not keep it alive.
        f"        numbers_{name} = {name}.ravel()",
        f"        for i in range(numbers_{name}.size):",
        "            if at < room:",
        f"                out_[at] = numbers_{name}[i]",
        "            at += 1",
    ]


def pool_density(
    size: int,
    coordinates: int,
    whitened: Whitened | None,
    belief_at: np.ndarray,
    new_at: np.ndarray,
    pieces: Sequence[Piece],
) -> Density:
    """Return the log density of a pool and its gradient.

    Parameters
    ----------
    size, coordinates
        Lengths of the sampler's vector and of that of all coordinates.
    whitened
        The belief's map, or one that only whitens; None where neither is there.
    belief_at, new_at
        Positions of the whitened coordinates, and of the others.
    pieces
        The batches, oldest first.
    """
    words = _PoolWords(coordinates, whitened, belief_at, new_at, pieces)
    return Density(_driver("pool", _pool, DENSITY), words, size)


def at_points(part: Part, vectors: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Return what a part gives at many points, array [point, width].

    Parameters
    ----------
    vectors
        Its three vectors, arrays [point, ...] of doubles.
    width
        How many numbers it gives at a point.

    Raises
    ------
    FitFailed
        If it cannot be computed somewhere.
    """
    arrays = [np.array(v, dtype=float, order="C", copy=None) for v in vectors]
    out, data = np.empty((len(arrays[0]), width)), part.data.array(width)
    run = _CALL_MANY(_driver("many", _many, _MANY).address)
    failed: list[int] = []

    def some(rows: range) -> None:
        words = [part.code.address]
        for array in (*arrays, out):
            words += [array.ctypes.data + rows.start * array.strides[0], array.strides[0]]
        given = np.array([*words, data.ctypes.data], dtype=np.uint64)
        failed.append(run(len(rows), given.ctypes.data))

    in_threads(some, len(out))
    if any(failed):
        raise not_computed()
    return out


class _PoolWords:
    """What the driver reads, kept alive: addresses of parts and data, and where everything stands."""

    def __init__(
        self,
        coordinates: int,
        whitened: Whitened | None,
        belief_at: np.ndarray,
        new_at: np.ndarray,
        pieces: Sequence[Piece],
    ) -> None:
        self._kept: list[Any] = [whitened, *pieces]
        index = [belief_at, new_at]
        plan, most = [], len(belief_at)
        for piece in pieces:
            start, width, states = sum(map(len, index)), len(piece.at), len(piece.state_at)
            index += [piece.at, piece.state_at]
            local = piece.local.stop - piece.local.start
            calls = [
                *self._called(piece.term, 1 + width + local),
                *(self._called(piece.state, states) if piece.state is not None else (0, 0)),
            ]
            plan.append([*calls, start, width, start + width, states, piece.local.start, local])
            most = max(most, 1 + width + local)
        every = np.concatenate(index).astype(np.int64)
        forward = back = map_data = 0
        constants = np.zeros(2)
        if whitened is not None:
            forward, map_data = self._called(whitened.forward, len(belief_at))
            back = whitened.back.code.address
            constants = np.array([whitened.constant, whitened.weight])
        self._words = [
            *(self._keep(np.array(plan, dtype=np.uint64)), len(plan)),
            *(self._keep(every), len(every)),
            *(coordinates, len(belief_at), most),
            *(forward, back, map_data, self._keep(constants)),
        ]

    def _called(self, part: Part, width: int) -> tuple[int, int]:
        """Return the addresses of a part and of its data, where it gives so many numbers."""
        return part.code.address, self._keep(part.data.array(width))

    def _keep(self, array: np.ndarray) -> int:
        self._kept.append(array)
        return int(array.ctypes.data)

    def array(self, rows: int) -> np.ndarray:
        """Return the words, and how many rows a call is about."""
        return np.array([*self._words, rows], dtype=np.uint64)


def _driver(name: str, function: Callable[..., Any], signature: Any) -> Code:
    """Return a driver, compiled or loaded once."""
    if name not in _drivers:
        lines = inspect.getsource(function).splitlines()
        scope = {"call": call, "nan": nan, "zeros": zeros}
        _drivers[name] = Code(c_function(function.__name__, lines, None, signature, **scope), (), ())
    return _drivers[name]


@numba.extending.intrinsic
def call(_context: Any, code: Any, one: Any, two: Any, three: Any, out: Any, data: Any) -> Any:
    """Call a part by its address, with addresses."""

    def generate(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [cgutils.voidptr_t] * 5)
        function = builder.inttoptr(given[0], kind.as_pointer())
        return builder.call(function, [builder.inttoptr(a, cgutils.voidptr_t) for a in given[1:]])

    return types.int64(code, one, two, three, out, data), generate


# The two functions below are source for numba and never run as they are. They stand alone, so that each is
# kept on disk as one piece.
def _many(rows, data_):  # type: ignore[no-untyped-def]
    """Call a part at many points."""
    words = carray(data_, (10,), uint64)
    code = int64(0)
    for row in range(int64(rows)):
        k = uint64(row)
        one, two, three = words[1] + k * words[2], words[3] + k * words[4], words[5] + k * words[6]
        code |= call(words[0], one, two, three, words[7] + k * words[8], words[9])
    return code


def _pool(size_, x_, gradient_, value_, data_):  # type: ignore[no-untyped-def] # noqa: PLR0912, PLR0915
    """Evaluate the log density of a pool and its gradient at rows of x."""
    words = carray(data_, (12,), uint64)
    count, n, belief, most = int64(words[1]), int64(words[4]), int64(words[5]), int64(words[6])
    plan = carray(as_pointer(words[0]), (count, 10), uint64)
    index = carray(as_pointer(words[2]), (int64(words[3]),), int64)
    forward, reverse, map_data = words[7], words[8], words[9]
    constants = carray(as_pointer(words[10]), (2,), float64)
    size, rows = int64(size_), int64(words[11])
    x, gradient = carray(x_, (rows * size,)), carray(gradient_, (rows * size,))
    # Cleared for each row, so that it outlives the calls that are given its addresses.
    scratch = zeros((count + 4) * n + most)
    along, back = scratch[: (count + 1) * n], scratch[(count + 1) * n : (count + 2) * n]
    part, pull = scratch[(count + 2) * n : (count + 3) * n], scratch[(count + 3) * n : (count + 4) * n]
    out = scratch[(count + 4) * n :]
    at_part, at_pull, at_out = uint64(part.ctypes.data), uint64(pull.ctypes.data), uint64(out.ctypes.data)
    found = int64(0)
    for row in range(rows):
        scratch[:] = 0.0
        here = row * size
        at_x = uint64(x.ctypes.data + 8 * here)
        failed = int64(0)
        if belief:
            failed |= call(forward, at_x, at_x, at_pull, at_out, map_data)
            for i in range(belief):
                along[index[i]] = out[i]
        for i in range(belief, n):
            along[index[i]] = x[here + i]
        for k in range(count):
            now, at, states = k * n, int64(plan[k, 4]), int64(plan[k, 7])
            for i in range(n):
                along[now + n + i] = along[now + i]
            if states:
                for i in range(int64(plan[k, 5])):
                    part[i] = along[now + index[at + i]]
                at_local, at = at_x + uint64(8) * plan[k, 8], int64(plan[k, 6])
                failed |= call(plan[k, 2], at_part, at_local, at_pull, at_out, plan[k, 3])
                for i in range(states):
                    along[now + n + index[at + i]] = out[i]
        value = constants[0]
        for k in range(count - 1, -1, -1):
            now, at, width, local = k * n, int64(plan[k, 4]), int64(plan[k, 5]), here + int64(plan[k, 8])
            state_at = int64(plan[k, 6])
            for i in range(int64(plan[k, 7])):
                pull[i] = back[index[state_at + i]]
                back[index[state_at + i]] = 0.0
            for i in range(width):
                part[i] = along[now + index[at + i]]
            at_local = at_x + uint64(8) * plan[k, 8]
            failed |= call(plan[k, 0], at_part, at_local, at_pull, at_out, plan[k, 1])
            value += out[0]
            for i in range(width):
                back[index[at + i]] += out[1 + i]
            for i in range(int64(plan[k, 9])):
                gradient[local + i] = out[1 + width + i]
        if belief:
            for i in range(belief):
                pull[i] = back[index[i]]
            failed |= call(reverse, at_x, at_x, at_pull, at_out, map_data)
            for i in range(belief):
                value -= 0.5 * constants[1] * x[here + i] ** 2
                gradient[here + i] = out[i] - constants[1] * x[here + i]
        for i in range(belief, n):
            gradient[here + i] = back[index[i]]
        if failed:
            value = nan
        value_[row] = value
        finite = isfinite(value)
        for i in range(size):
            finite = finite and isfinite(gradient[here + i])
        # A positive code ends the trajectory as a divergence, not the sampler.
        if not finite:
            found = int64(4)
    return found
