"""Predictive draws of a model's observed variables, given draws of its parameters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import cache, partial
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import HasInnerGraph
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.traversal import ancestors, toposort
from pytensor.scalar.basic import Cast
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import Reshape

from lindley.model.tensors import placeholder, plain
from lindley.target._compat import jitted
from lindley.target.engine import keep, numba_function, recall, same_computation

_lock = threading.RLock()
_known: list[tuple[tuple[list[Variable], list[Variable]], Callable[..., Any]]] = []
_KEEP = 8
#: Approximate size of the largest array in a call, in numbers.
_MOST_NUMBERS = 2_000_000


#: PyTensor's own evaluation, operation by operation, with NumPy: nothing to compile, nothing to share.
_NUMPY = Mode(linker="py", optimizer=None)


def predictive_draws(
    model: Any,
    values: dict[str, np.ndarray],
    *,
    rng: np.random.Generator,
    variables: list[Variable] | None = None,
) -> dict[str, np.ndarray]:
    """Draw the observed variables, or others, once for each given draw of the parameters.

    Parameters
    ----------
    model
        A built PyMC model.
    values
        Natural-scale draws of its free variables by name, arrays [sample, ...]. Free variables that are
        not given (local ones) are drawn from their prior given the others.
    rng
        Source of randomness.
    variables
        Which random variables of the model are drawn; the observed ones by default.

    Returns
    -------
    dict
        Arrays [sample, ...] by variable.
    """
    found: dict[str, np.ndarray] = {}
    start = 0
    for block in predictive_blocks(model, values, rng=rng, variables=variables):
        for name, drawn in block.items():
            if name not in found:
                count = len(next(iter(values.values())))
                found[name] = np.empty((count, *drawn.shape[1:]), drawn.dtype)
            found[name][start : start + len(drawn)] = drawn
        start += len(drawn)
    return found


def predictive_blocks(
    model: Any,
    values: dict[str, np.ndarray],
    *,
    rng: np.random.Generator,
    variables: list[Variable] | None = None,
    strict: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield what `predictive_draws` returns in parts, so that no more than a part need be in memory.

    The parts depend on the shapes of model and values only: the same arguments give the same numbers. Any
    number of threads may draw at once.

    Parameters
    ----------
    model, values, rng, variables
        As in `predictive_draws`.
    strict
        Whether parameters that a distribution does not admit (a negative count of trials) are an error. By
        default what comes out for them has no meaning.

    Raises
    ------
    Exception
        What a distribution raises, if `strict`.
    """
    observed = list(model.observed_RVs) if variables is None else variables
    given = [rv for rv in model.free_RVs if rv.name in values]
    count = len(next(iter(values.values())))
    points = [np.array(values[rv.name], dtype=rv.dtype, order="C") for rv in given]
    made = [placeholder(rv, f"given_{i}") for i, rv in enumerate(given)]
    single = [entry for entry, _ in made]
    stand_ins = {rv: stand_in for rv, (_, stand_in) in zip(given, made, strict=True)}
    targets = [plain(target) for target in graph_replace(observed, stand_ins, strict=False)]
    outputs, inputs, generators, data = _function_graph(targets, single)
    rest = inputs[len(single) :]
    many = _many_at_once(outputs, single)
    results, wanted = (outputs, inputs) if many is None else (many[0], [*many[1], *rest])
    step = 1
    if many is not None:
        # Some draws at a time: every intermediate array has this factor in its size.
        sizes = [*(array.size for array in data), *(array[0].size for array in points)]
        step = max(1, _MOST_NUMBERS // max(1, *sizes))
    evaluate = _in_numpy(results, wanted) if many is not None else None
    compiled = cache(partial(_compiled, results, wanted))
    for start in range(0, count, step):
        some = [array[start : start + step] for array in points]
        # Each random variable of the graph has its own generator input, with its own stream.
        streams = [np.random.default_rng(s) for s in rng.integers(2**63, size=generators)]
        if many is None:
            some = [np.asarray(array[0]) for array in some]
        drawn = _drawn(evaluate, compiled, [*some, *streams, *data], strict)
        yield {rv.name: v[None] if many is None else v for rv, v in zip(observed, drawn, strict=True)}


def _drawn(
    evaluate: Callable[..., Any] | None,
    compiled: Callable[[], Callable[..., Any]],
    arguments: list[Any],
    strict: bool,
) -> list[np.ndarray]:
    """Return a graph's outputs, with NumPy where `evaluate` can, else with the function that is compiled."""
    if evaluate is not None:
        try:
            return [np.asarray(value) for value in evaluate(*arguments)]
        except NotImplementedError:  # an operation that only compiled code has
            pass
        except Exception:
            if strict:
                raise
    return [np.array(value) for value in compiled()(*arguments)]


def _in_numpy(outputs: list[Variable], inputs: list[Variable]) -> Callable[..., Any] | None:
    """Return a graph's function that NumPy evaluates; None where that would be slow.

    It belongs to its caller: PyTensor's functions keep arrays between calls, so threads must not share one.
    """
    for node in toposort(outputs):
        scalar = node.op.scalar_op if isinstance(node.op, Elemwise) else None
        quick = scalar is None or isinstance(scalar, Cast) or getattr(scalar, "nfunc_spec", None)
        if not quick:
            return None  # a loop in Python
    return pytensor.function(inputs, outputs, mode=_NUMPY, on_unused_input="ignore")


def _many_at_once(
    outputs: list[Variable], single: list[Variable]
) -> tuple[list[Variable], list[Variable]] | None:
    """Return outputs for many draws of the parameters, and these as inputs; None where that cannot be.

    Every random variable has to depend on a given parameter, or to state its size: any other would be drawn
    only once, and the draws would not be independent. Loops, and distributions that consist of several
    operations, are evaluated one draw at a time.
    """
    graph = FunctionGraph(outputs=outputs, clone=True, copy_inputs=False)
    nodes = graph.toposort()
    if not single or any(isinstance(node.op, HasInnerGraph) for node in nodes):
        return None
    many = [pt.tensor(v.name, dtype=v.dtype, shape=(None, *v.type.shape)) for v in single]
    swap = dict(zip(single, many, strict=True))
    random = [node for node in nodes if isinstance(node.op, RandomVariable)]
    for node in random:
        size = node.op.size_param(node)
        if isinstance(size.type, pt.TensorType):
            # PyTensor takes new dims from a variable's first parameter only, on which they may not depend.
            stand_in = size.type()
            graph.change_node_input(node, node.inputs.index(size), stand_in, import_missing=True)
            swap[stand_in] = pt.concatenate([many[0].shape[:1], size])
    targets = [*graph.outputs, *(node.outputs[1] for node in random)]
    try:
        found = vectorize_graph(targets, swap)
    except Exception:  # operations that cannot be vectorized raise errors of any type
        return None
    if any(new.type.ndim != old.type.ndim + 1 for new, old in zip(found, targets, strict=True)):
        return None
    return found[: len(outputs)], many


def _function_graph(
    outputs: list[Variable], parameters: list[Variable]
) -> tuple[list[Variable], list[Variable], int, list[np.ndarray]]:
    """Return outputs, inputs (parameters, generators, data), the number of generators, and the data.

    Arrays that a model holds as constants are data too: other rows need no other function.
    """
    nodes = list(toposort(outputs))
    lengths = {v for node in nodes for v in _lengths(node)}
    leaves = [v for v in ancestors(outputs) if v.owner is None and v not in set(parameters)]
    random = [v for v in leaves if isinstance(v.type, RandomType)]
    fixed = [
        v
        for v in leaves
        if v not in random and (isinstance(v, SharedVariable) or (_is_array(v) and v not in lengths))
    ]
    made = {v: placeholder(v, f"input_{i}") for i, v in enumerate([*random, *fixed])}
    swap = {v: stand_in for v, (_, stand_in) in made.items()}
    outputs = graph_replace(outputs, swap, strict=False)
    data = [
        np.array(v.get_value(borrow=True) if isinstance(v, SharedVariable) else v.data, order="C")
        for v in fixed
    ]
    return outputs, [*parameters, *(entry for entry, _ in made.values())], len(random), data


def _is_array(variable: Variable) -> bool:
    """Whether a variable is a constant array."""
    return (
        isinstance(variable, Constant) and isinstance(variable.type, pt.TensorType) and variable.type.ndim > 0
    )


def _lengths(node: Apply) -> list[Variable]:
    """Return the inputs of an operation that are lengths of dims: as constants they fix the graph's types."""
    if isinstance(node.op, RandomVariable):
        return [node.op.size_param(node)]
    return list(node.inputs[1:]) if isinstance(node.op, Reshape) else []


def _compiled(outputs: list[Variable], inputs: list[Variable]) -> Callable[..., Any]:
    """Return a graph's function as machine code, compiled once per process.

    It keeps nothing between calls, unlike the function of PyTensor around it, so threads may share it.
    """
    graph = inputs, outputs
    with _lock:
        known = recall(_known, lambda item: same_computation(item[0], graph))
        return (known or keep(_known, (graph, jitted(numba_function(*graph))), _KEEP))[1]
