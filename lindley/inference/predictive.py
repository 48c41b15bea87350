"""Predictive draws of a model's observed variables, given draws of its parameters."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor.tensor as pt
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable
from pytensor.graph.op import HasInnerGraph
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.random.type import RandomType

from lindley.model.tensors import placeholder, plain
from lindley.target.engine import keep, numba_function, recall, same_computation

_lock = threading.Lock()
_cache: list[tuple[tuple[list[Variable], list[Variable]], Callable[..., Any]]] = []
_KEEP = 8
#: Approximate size of the largest array in a call, in numbers.
_MOST_NUMBERS = 2_000_000


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
    observed = list(model.observed_RVs) if variables is None else variables
    given = [rv for rv in model.free_RVs if rv.name in values]
    count = len(next(iter(values.values())))
    points = {rv.name: np.asarray(values[rv.name], dtype=rv.dtype) for rv in given}
    made = [placeholder(rv, f"given_{i}") for i, rv in enumerate(given)]
    single = [entry for entry, _ in made]
    stand_ins = {rv: stand_in for rv, (_, stand_in) in zip(given, made, strict=True)}
    targets = [plain(target) for target in graph_replace(observed, stand_ins, strict=False)]
    many = _many_at_once(targets, single)
    outputs, inputs, generators, data = _function_graph(*(many or (targets, single)))
    function = _compiled(outputs, inputs)
    step = 1
    if many is not None:
        # Some draws at a time: every intermediate array has this factor in its size.
        sizes = [*(array.size for array in data), *(values[0].size for values in points.values())]
        step = max(1, _MOST_NUMBERS // max(1, *sizes))
    found: list[list[np.ndarray]] = []
    for start in range(0, count, step):
        some = [points[rv.name][start : start + step] for rv in given]
        # Each random variable of the graph has its own generator input, with its own stream.
        streams = [np.random.default_rng(s) for s in rng.integers(2**63, size=generators)]
        one = some if many is not None else [values[0] for values in some]
        drawn = [np.array(v) for v in function(*one, *streams, *data)]
        found.append(drawn if many is not None else [v[None] for v in drawn])
    return {rv.name: np.concatenate([part[i] for part in found]) for i, rv in enumerate(observed)}


def _many_at_once(
    outputs: list[Variable], single: list[Variable]
) -> tuple[list[Variable], list[Variable]] | None:
    """Return outputs for many draws of the parameters, and these as inputs; None where that cannot be.

    Every random variable has to depend on a given parameter: any other would be drawn only once, and the
    draws would not be independent. Loops, and distributions that consist of several operations, are
    evaluated one draw at a time.
    """
    nodes = {v.owner for v in ancestors(outputs) if v.owner is not None}
    if not single or any(isinstance(node.op, HasInnerGraph) for node in nodes):
        return None
    drawn = [node.outputs[1] for node in nodes if isinstance(node.op, RandomVariable)]
    many = [pt.tensor(v.name, dtype=v.dtype, shape=(None, *v.type.shape)) for v in single]
    try:
        found = vectorize_graph([*outputs, *drawn], dict(zip(single, many, strict=True)))
    except Exception:  # operations that cannot be vectorized raise errors of any type
        return None
    if any(new.type.ndim != old.type.ndim + 1 for new, old in zip(found, [*outputs, *drawn], strict=True)):
        return None
    return found[: len(outputs)], many


def _function_graph(
    outputs: list[Variable], parameters: list[Variable]
) -> tuple[list[Variable], list[Variable], int, list[np.ndarray]]:
    """Return outputs, inputs (parameters, generators, data), the number of generators, and the data."""
    shared = [v for v in ancestors(outputs) if isinstance(v, SharedVariable)]
    random = [v for v in shared if isinstance(v.type, RandomType)]
    fixed = [v for v in shared if not isinstance(v.type, RandomType)]
    made = {v: placeholder(v, f"input_{i}") for i, v in enumerate([*random, *fixed])}
    swap = {v: stand_in for v, (_, stand_in) in made.items()}
    outputs = graph_replace(outputs, swap, strict=False)
    data = [np.array(v.get_value(borrow=True)) for v in fixed]
    return outputs, [*parameters, *(entry for entry, _ in made.values())], len(random), data


def _compiled(outputs: list[Variable], inputs: list[Variable]) -> Callable[..., Any]:
    """Compile once per process and graph."""
    graph = inputs, outputs
    with _lock:
        known = recall(_cache, lambda item: same_computation(item[0], graph))
        return (known or keep(_cache, (graph, numba_function(*graph)), _KEEP))[1]
