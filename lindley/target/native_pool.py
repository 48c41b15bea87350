"""Several batches in one target as machine code; see `lindley.target.pool` for what it computes.

Each batch's term is compiled by itself, with an outer function in C's calling convention that takes its
coordinates, its local variables and the cotangent of its state. One driver, the same for all models
(`lindley.target.native_drivers`), calls them by address, batch after batch forwards for state and backwards
for values and gradients. A pool of other batches is then another table of addresses, and nothing is
compiled for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from pytensor.graph.basic import Variable

from lindley.target._compat import cache_key
from lindley.target.native import DENSITY, DOUBLES, Code, arguments, c_function, words_of
from lindley.target.native_calls import Density, Words, in_threads, not_computed
from lindley.target.native_drivers import driver, many, pool

#: Convention of a part: three vectors that vary, its outputs one after the other, and data; 0 or a code.
_PART = types.int64(DOUBLES, DOUBLES, DOUBLES, DOUBLES, types.voidptr)
#: Convention of a part at many points: how many, and the words that `many` reads.
_MANY = types.int64(types.uint64, types.voidptr)
_CALL_MANY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p)


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
        The term with its gradients, and the state that is carried forward; None without state.
    at, state_at
        Arrays [coordinate of the model] and [state] of positions in the vector of all coordinates.
    local
        Its local variables' positions in the sampler's vector.
    """

    term: Part
    state: Part | None
    at: np.ndarray
    state_at: np.ndarray
    local: slice


@dataclass(frozen=True)
class Whitened:
    """The map from whitened points to coordinates.

    Parameters
    ----------
    forward, back
        Parts that return u(z), and the gradient by z of u(z) . pull.
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
        # The last word is how many numbers there is room for.
        f"    room, at = int64(data[{words_of(fixed)}]), 0",
        "    try:",
        f"        {', '.join(found)}, = jitted({', '.join(given)})",
    ]
    for name, output in zip(found, outputs, strict=True):
        lines += _written(name, output.type.ndim)
    lines += ["    except Exception:", "        return 1", "    return 0 if at == room else 2"]
    function = c_function("part", lines, _PART, inside=cache_key(jitted), jitted=jitted)
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
        The belief's map, or one that only whitens; None without either.
    belief_at, new_at
        Positions of the whitened coordinates, and of the others.
    pieces
        The batches, oldest first.
    """
    words = _PoolWords(coordinates, whitened, belief_at, new_at, pieces)
    return Density(driver(pool, DENSITY), words, size)


def at_points(part: Part, vectors: Sequence[np.ndarray], width: int) -> np.ndarray:
    """Return the outputs of a part at many points, array [point, width].

    Parameters
    ----------
    vectors
        Its three vectors, arrays [point, ...] of doubles.
    width
        Number of outputs at a point.

    Raises
    ------
    FitFailed
        If it cannot be computed somewhere.
    """
    arrays = [np.array(v, dtype=float, order="C", copy=None) for v in vectors]
    out, data = np.empty((len(arrays[0]), width)), part.data.array(width)
    run = _CALL_MANY(driver(many, _MANY).address)
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
    """The words that the driver reads, kept alive: addresses of parts and data, positions, lengths."""

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
        """Return the addresses of a part and of its data, for a part with so many outputs."""
        return part.code.address, self._keep(part.data.array(width))

    def _keep(self, array: np.ndarray) -> int:
        self._kept.append(array)
        return int(array.ctypes.data)

    def array(self, rows: int) -> np.ndarray:
        """Return the words, and how many rows a call is about."""
        return np.array([*self._words, rows], dtype=np.uint64)
