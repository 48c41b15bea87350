"""Compiled graphs: compiled once, reused for every prior and batch.

PyTensor's numba backend keeps what it compiles on disk, so a new process is ready in one or two
seconds; its function is called from nutpie directly. nutpie's own numba wrappers would be compiled
anew in every process (docs/adr/0003-engine.md has the measurements).
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pytensor
from pytensor.compile.mode import get_mode
from pytensor.graph.basic import Variable, equal_computations

from lindley.errors import ModelRefused

#: Compiled graphs kept per process.
_KEEP = 16
_cache: OrderedDict[int, tuple[Compilable, Functions]] = OrderedDict()
_lock = threading.Lock()

Functions = Mapping[str, Callable[..., Any]]


class Compilable(Protocol):
    """A graph with named functions of the same inputs."""

    @property
    def digest(self) -> str:
        """Sha256 of the graph's structure."""

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """All inputs."""

    @property
    def outputs(self) -> list[Variable]:
        """All outputs."""

    @property
    def functions(self) -> dict[str, list[Variable]]:
        """Outputs by the function that computes them."""

    def example(self) -> tuple[np.ndarray, ...]:
        """Return arguments to run the functions once with."""


@dataclass(frozen=True)
class Bound:
    """A target with prior and data bound: a function of the sampler's vector alone.

    Parameters
    ----------
    size
        Length of the vector.
    keys
        Names of the quantities.
    log_density
        ``f(x) -> (log density, gradient [x])``.
    quantities
        ``f(x) -> tuple of arrays``, in the order of `keys`.
    """

    size: int
    keys: tuple[str, ...]
    log_density: Callable[[np.ndarray], tuple[float, np.ndarray]]
    quantities: Callable[[np.ndarray], tuple[Any, ...]]


def compiled(graph: Compilable) -> tuple[Functions, bool]:
    """Return the compiled functions of a graph and whether the process had them before.

    Raises
    ------
    ModelRefused
        If PyTensor cannot compile the model's graph.
    """
    with _lock:
        for key, (known, functions) in _cache.items():
            if _same(known, graph):
                _cache.move_to_end(key)
                return functions, True
        functions = _compile(graph)
        _cache[id(functions)] = (graph, functions)
        while len(_cache) > _KEEP:
            _cache.popitem(last=False)
        return functions, False


def _same(old: Compilable, new: Compilable) -> bool:
    """Whether two graphs are the same computation of their inputs."""
    if old.digest != new.digest or [v.type for v in old.inputs] != [v.type for v in new.inputs]:
        return False
    if {k: len(v) for k, v in old.functions.items()} != {k: len(v) for k, v in new.functions.items()}:
        return False
    # The digest abbreviates long constants; the comparison does not.
    return bool(equal_computations(old.outputs, new.outputs, list(old.inputs), list(new.inputs)))


def _compile(graph: Compilable) -> Functions:
    """Compile the functions of a graph with PyTensor's numba backend, and run each once."""
    try:
        functions = {name: _function(graph, outputs) for name, outputs in graph.functions.items()}
        arguments = graph.example()
        for function in functions.values():
            function(*arguments)
    except Exception as error:
        raise ModelRefused(
            "The model's graph cannot be compiled",
            expected="operations that PyTensor's numba backend implements",
            found=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}",
            todo="run pm.sample on the model by itself; replace custom operations by PyTensor's own",
        ) from error
    return functions


def _function(graph: Compilable, outputs: list[Variable]) -> Callable[..., Any]:
    """Compile one function."""
    with warnings.catch_warnings():
        # Numba falls back to object mode with a warning where an operation has no implementation.
        warnings.simplefilter("ignore")
        function = pytensor.function(list(graph.inputs), outputs, mode=numba_mode(), on_unused_input="ignore")
    shared = [variable.get_value(borrow=True) for variable in function.get_shared()]
    jitted: Callable[..., Any] = function.vm.jit_fn
    if not shared:
        return jitted
    return lambda *args: jitted(*args, *shared)


def numba_mode() -> Any:
    """Return PyTensor's numba mode, with PyMC's parameter checks as -inf in place of exceptions."""
    return get_mode("NUMBA").including("local_check_parameter_to_ninf_switch")
