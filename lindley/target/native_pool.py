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
from lindley.target.native import DOUBLES, Code, arguments, c_function, words_of
from lindley.target.native_calls import Words, in_threads, not_computed
from lindley.target.native_drivers import driver, many

#: Convention of a part: three vectors that vary, its outputs one after the other, and data; 0 or a code.
_PART = types.int64(DOUBLES, DOUBLES, DOUBLES, DOUBLES, types.voidptr)
#: Convention of a part at many points: how many, and the words that `many` reads.
_MANY = types.int64(types.uint64, types.voidptr)
_CALL_MANY = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_uint64, ctypes.c_void_p)


@dataclass(frozen=True)
class Part:
    """A compiled part (see `part_code`) with its constant inputs."""

    code: Code
    data: Words


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
        Which input each of three vectors is (0, 1, 2: its position); the others come as data, and then the
        lengths of those vectors that may have any.
    """
    fixed = [v for i, v in enumerate(inputs) if i not in varying.values()]
    names = {index: f"v{slot}" for slot, index in varying.items()}
    constant = (f"a{i}" for i in range(len(fixed)))
    given = [names.get(i) or next(constant) for i in range(len(inputs))]
    # Behind the arrays' words: the lengths of vectors of any length, and how many numbers there is room for.
    lengths, vectors = {i: inputs[i].type.shape[0] for i in varying.values()}, []
    extra = [i for i in varying.values() if lengths[i] is None]
    for slot, i in varying.items():
        known = lengths[i]
        length = f"int64(data[{words_of(fixed) + extra.index(i)}])" if known is None else f"{known}"
        vectors.append(f"    v{slot} = carray(v{slot}_, ({length},))")
    found = [f"out{i}" for i in range(len(outputs))]
    lines = [
        "def part(v0_, v1_, v2_, out_, data_):",
        *arguments(fixed, len(extra)),
        *vectors,
        f"    room, at = int64(data[{words_of(fixed) + len(extra)}]), 0",
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
