"""The functions that call the parts of a pool or a density, the same for all models.

See `lindley.target.native_pool` and `lindley.target.whitening`. Everything below `driver` is source for
numba. Only `many`, `pool` and `mapped` have an address; what they call is compiled into them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numpy import float64, int64, isfinite, nan, uint64, zeros

from lindley.target.native import VOID_POINTER, Code, as_pointer, c_function

carray = numba.carray  # under the name that compiled source uses


@cache
def driver(function: Callable[..., Any], signature: Any) -> Code:
    """Return `many`, `pool` or `mapped`, compiled or loaded once, by numba's signature of it."""
    lines = inspect.getsource(function).splitlines()
    # They call other functions of this file: all of it is in the key of what is kept on disk.
    inside = Path(__file__).read_text(encoding="utf-8")
    return Code(c_function(function.__name__, lines, signature, inside=inside, **globals()), (), ())


@numba.extending.intrinsic
def call(_context: Any, code: Any, one: Any, two: Any, three: Any, out: Any, data: Any) -> Any:
    """Call a part by its address, with addresses."""

    def generate(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [VOID_POINTER] * 5)
        function = builder.inttoptr(given[0], kind.as_pointer())
        return builder.call(function, [builder.inttoptr(a, VOID_POINTER) for a in given[1:]])

    return types.int64(code, one, two, three, out, data), generate


@numba.extending.intrinsic
def call_density(_context: Any, code: Any, size: Any, x: Any, gradient: Any, value: Any, data: Any) -> Any:
    """Call a density by its address, with addresses."""

    def generate(_context: Any, builder: Any, _signature: Any, given: Any) -> Any:
        kind = ir.FunctionType(ir.IntType(64), [ir.IntType(64), *[VOID_POINTER] * 4])
        function = builder.inttoptr(given[0], kind.as_pointer())
        return builder.call(function, [given[1], *(builder.inttoptr(a, VOID_POINTER) for a in given[2:])])

    return types.int64(code, size, x, gradient, value, data), generate


class _Work(NamedTuple):
    """What the driver of a pool works on.

    Parameters
    ----------
    plan
        Array [batch, 10] of words: addresses of the term and its data, of the state and its data; where its
        positions stand in `places`, and how many; the same of its state; where its local variables stand in
        the sampler's vector, and how many.
    places
        Positions in the vector of all coordinates, which the plan refers to; the first ones are those of
        the whitened coordinates, then of the others.
    belief
        Number of whitened coordinates.
    along
        Array [batch + 1, coordinate]: coordinates before each batch, and after the last.
    back
        Array [coordinate]: gradient of what comes after a batch by the coordinates after it.
    given, pull, out
        What is passed to a part (coordinates, cotangent of the state), and what it returns.
    """

    plan: np.ndarray
    places: np.ndarray
    belief: np.int64
    along: np.ndarray
    back: np.ndarray
    given: np.ndarray
    pull: np.ndarray
    out: np.ndarray


@numba.njit(inline="always")
def _work(words: Any) -> Any:
    """Allocate what the driver works on, by the words of `lindley.target.pool.Pool`."""
    count, n, belief, most = int64(words[1]), int64(words[4]), int64(words[5]), int64(words[6])
    plan = carray(as_pointer(words[0]), (count, 10), uint64)
    places = carray(as_pointer(words[2]), (int64(words[3]),), int64)
    return _Work(plan, places, belief, zeros((count + 1, n)), zeros(n), zeros(n), zeros(n), zeros(most))


@numba.njit(inline="always")
def _at(array: Any) -> Any:
    """Return the address of an array."""
    return uint64(array.ctypes.data)


@numba.njit(inline="always")
def _start(work: Any, words: Any, x: Any) -> Any:
    """Set the coordinates before the first batch from a row x of the sampler's vector."""
    first, code = work.along[0], int64(0)
    if work.belief:
        code = call(words[7], _at(x), _at(x), _at(work.pull), _at(work.out), words[9])
        for i in range(work.belief):
            first[work.places[i]] = work.out[i]
    for i in range(work.belief, len(first)):
        first[work.places[i]] = x[i]
    return code


@numba.njit(inline="always")
def _forward(work: Any, k: Any, x: Any) -> Any:
    """Set the coordinates after batch k: those before it, with the state at its end."""
    before, after, plan, code = work.along[k], work.along[k + 1], work.plan[k], int64(0)
    for i in range(len(after)):
        after[i] = before[i]
    at, width, state_at, states = int64(plan[4]), int64(plan[5]), int64(plan[6]), int64(plan[7])
    if states:
        for i in range(width):
            work.given[i] = before[work.places[at + i]]
        at_local = _at(x) + uint64(8) * plan[8]
        code = call(plan[2], _at(work.given), at_local, _at(work.pull), _at(work.out), plan[3])
        for i in range(states):
            after[work.places[state_at + i]] = work.out[i]
    return code


@numba.njit(inline="always")
def _backward(work: Any, k: Any, x: Any, gradient: Any) -> Any:
    """Set the gradients by batch k's local variables and the coordinates before it; `out` has its term."""
    before, plan, back = work.along[k], work.plan[k], work.back
    at, width, state_at, states = int64(plan[4]), int64(plan[5]), int64(plan[6]), int64(plan[7])
    for i in range(states):
        work.pull[i] = back[work.places[state_at + i]]
        back[work.places[state_at + i]] = 0.0
    for i in range(width):
        work.given[i] = before[work.places[at + i]]
    at_local = _at(x) + uint64(8) * plan[8]
    code = call(plan[0], _at(work.given), at_local, _at(work.pull), _at(work.out), plan[1])
    for i in range(width):
        back[work.places[at + i]] += work.out[1 + i]
    for i in range(int64(plan[9])):
        gradient[int64(plan[8]) + i] = work.out[1 + width + i]
    return code


@numba.njit(inline="always")
def _finish(work: Any, words: Any, x: Any, gradient: Any, value: Any) -> Any:
    """Set the gradient by whitened and other coordinates; return a code and the value with z's term."""
    code, n = int64(0), len(work.back)
    if work.belief:
        for i in range(work.belief):
            work.pull[i] = work.back[work.places[i]]
        code = call(words[8], _at(x), _at(x), _at(work.pull), _at(work.out), words[9])
        for i in range(work.belief):
            value -= 0.5 * x[i] ** 2
            gradient[i] = work.out[i] - x[i]
    for i in range(work.belief, n):
        gradient[i] = work.back[work.places[i]]
    return code, value


def many(rows, data_):  # type: ignore[no-untyped-def]
    """Call a part at many points."""
    words = carray(data_, (10,), uint64)
    code = int64(0)
    for row in range(int64(rows)):
        k = uint64(row)
        one, two, three = words[1] + k * words[2], words[3] + k * words[4], words[5] + k * words[6]
        code |= call(words[0], one, two, three, words[7] + k * words[8], words[9])
    return code


def pool(size_, x_, gradient_, value_, data_):  # type: ignore[no-untyped-def]
    """Evaluate the log density of a pool and its gradient at rows of x."""
    words = carray(data_, (12,), uint64)
    size, rows, found = int64(size_), int64(words[11]), int64(0)
    constant = carray(as_pointer(words[10]), (1,), float64)[0]
    points, gradients = carray(x_, (rows, size)), carray(gradient_, (rows, size))
    # Lives until the last row is done, and with it the arrays that parts are given the addresses of.
    work = _work(words)
    count = len(work.plan)
    for row in range(rows):
        x, gradient = points[row], gradients[row]
        work.back[:] = 0.0
        failed = _start(work, words, x)
        for k in range(count):
            failed |= _forward(work, k, x)
        value = constant
        for k in range(count - 1, -1, -1):
            failed |= _backward(work, k, x, gradient)
            value += work.out[0]
        code, value = _finish(work, words, x, gradient, value)
        value_[row] = nan if failed | code else value
        finite = isfinite(value_[row])
        for i in range(size):
            finite = finite and isfinite(gradient[i])
        # A positive code ends the trajectory as a divergence, not the sampler.
        if not finite:
            found = int64(4)
    return found


def mapped(size_, x_, gradient_, value_, data_):  # type: ignore[no-untyped-def]
    """Evaluate a density where an affine map takes the first coordinates of rows of x."""
    words = carray(data_, (7,), uint64)
    size, count, rows, found = int64(size_), int64(words[5]), int64(words[6]), int64(0)
    factor = carray(as_pointer(words[2]), (count, count), float64)
    center = carray(as_pointer(words[3]), (count,), float64)
    added = carray(as_pointer(words[4]), (2,), float64)
    points, gradients = carray(x_, (rows, size)), carray(gradient_, (rows, size))
    u, slope, value = zeros(size), zeros(size), zeros(1)
    for row in range(rows):
        x, gradient = points[row], gradients[row]
        u[:] = x
        slope[:] = nan  # where the density raises, it sets nothing
        value[0] = nan
        for i in range(count):
            u[i] = center[i]
            for j in range(count):
                u[i] += factor[i, j] * x[j]
        code = call_density(words[0], uint64(size), _at(u), _at(slope), _at(value), words[1])
        value_[row] = value[0] + added[0]
        gradient[:] = slope
        for j in range(count):
            value_[row] -= 0.5 * added[1] * x[j] ** 2
            gradient[j] = -added[1] * x[j]
            for i in range(count):
                gradient[j] += factor[i, j] * slope[i]
        found = max(found, code)
    return found
