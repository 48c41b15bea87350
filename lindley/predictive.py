"""Predictive draws of a model's observed variables, given draws of its parameters."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytensor
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Variable, equal_computations
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

from lindley.engine import numba_mode

_lock = threading.Lock()
_cache: list[tuple[list[Variable], list[Variable], Callable[..., Any]]] = []
_KEEP = 8


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
    outputs, inputs, generators, data = _function_graph(observed, given)
    function = _compiled(outputs, inputs)
    count = len(next(iter(values.values())))
    rows: list[list[np.ndarray]] = []
    for i in range(count):
        point = [np.asarray(values[rv.name][i], dtype=rv.dtype) for rv in given]
        # Each random variable of the graph has its own generator input; each gets its own stream.
        streams = [np.random.default_rng(s) for s in rng.integers(2**63, size=generators)]
        rows.append([np.array(v) for v in function(*point, *streams, *data)])
    return {rv.name: np.array([row[i] for row in rows]) for i, rv in enumerate(observed)}


def _function_graph(
    observed: list[Variable], given: list[Variable]
) -> tuple[list[Variable], list[Variable], int, list[np.ndarray]]:
    """Return outputs, inputs (parameters, generators, data), the number of generators, and the data."""
    parameters = {rv: rv.type(name=f"given_{i}") for i, rv in enumerate(given)}
    outputs = graph_replace(list(observed), parameters, strict=False)
    shared = [v for v in ancestors(outputs) if isinstance(v, SharedVariable)]
    random = [v for v in shared if isinstance(v.type, RandomType)]
    fixed = [v for v in shared if not isinstance(v.type, RandomType)]
    swap = {v: v.type(name=f"input_{i}") for i, v in enumerate([*random, *fixed])}
    outputs = graph_replace(outputs, swap, strict=False)
    data = [np.array(v.get_value(borrow=True)) for v in fixed]
    return outputs, [*parameters.values(), *swap.values()], len(random), data


def _compiled(outputs: list[Variable], inputs: list[Variable]) -> Callable[..., Any]:
    """Compile once per process and graph."""
    with _lock:
        for old_outputs, old_inputs, function in _cache:
            if [v.type for v in old_inputs] == [v.type for v in inputs] and equal_computations(
                old_outputs, outputs, old_inputs, inputs
            ):
                return function
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            function = pytensor.function(inputs, outputs, mode=numba_mode(), on_unused_input="ignore")
        _cache.append((outputs, inputs, function))
        del _cache[:-_KEEP]
        return function
