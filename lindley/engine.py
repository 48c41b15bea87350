"""Compiled targets: compiled once per graph, reused for every prior and batch.

PyTensor's numba backend keeps what it compiles on disk, so a new process is ready in one or two
seconds; its function is called from nutpie directly. nutpie's own numba wrappers would be compiled
anew in every process (docs/adr/0003-engine.md has the measurements).
"""

from __future__ import annotations

import threading
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
from pytensor.compile.mode import get_mode
from pytensor.graph.basic import equal_computations

from lindley.density import Target
from lindley.errors import ModelRefused
from lindley.transport import joint_normal

#: Compiled targets kept per process.
_KEEP = 16
_cache: OrderedDict[int, Engine] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True)
class Engine:
    """Compiled functions of one target graph.

    Parameters
    ----------
    target
        The graph the functions were compiled from.
    log_density
        ``f(x, *prior, *data) -> (log density, gradient [x])``.
    quantities
        ``f(x, *prior, *data) -> tuple``, in the order of ``target.quantities``.
    """

    target: Target
    log_density: Callable[..., Any]
    quantities: Callable[..., Any]


def compile_target(target: Target) -> tuple[Engine, bool]:
    """Return the engine of a target and whether it was compiled before in this process.

    Raises
    ------
    ModelRefused
        If PyTensor cannot compile the model's graph.
    """
    with _lock:
        for key, engine in _cache.items():
            if _same(engine.target, target):
                _cache.move_to_end(key)
                return engine, True
        engine = _compile(target)
        _cache[id(engine)] = engine
        while len(_cache) > _KEEP:
            _cache.popitem(last=False)
        return engine, False


def _same(old: Target, new: Target) -> bool:
    """Whether two targets are the same computation of their inputs."""
    if old.digest != new.digest or [v.type for v in old.inputs] != [v.type for v in new.inputs]:
        return False
    if list(old.quantities) != list(new.quantities):
        return False
    # The digest abbreviates long constants; the comparison does not.
    return bool(equal_computations(old.outputs, new.outputs, list(old.inputs), list(new.inputs)))


def _compile(target: Target) -> Engine:
    """Compile both functions of a target with PyTensor's numba backend."""
    point = np.zeros(target.x.type.shape[0])

    def compiled(outputs: Any) -> Callable[..., Any]:
        with warnings.catch_warnings():
            # Numba falls back to object mode with a warning where an operation has no implementation.
            warnings.simplefilter("ignore")
            function = pytensor.function(
                list(target.inputs), outputs, mode=numba_mode(), on_unused_input="ignore"
            )
        shared = [variable.get_value(borrow=True) for variable in function.get_shared()]
        jitted = function.vm.jit_fn
        if not shared:
            return jitted
        return lambda *args: jitted(*args, *shared)

    try:
        engine = Engine(
            target=target,
            log_density=compiled([target.log_density, target.gradient]),
            quantities=compiled(list(target.quantities.values())),
        )
        arguments = (point, *_standard(target), *target.data_values)
        engine.log_density(*arguments)
        engine.quantities(*arguments)
    except Exception as error:
        raise ModelRefused(
            "The model's graph cannot be compiled",
            expected="operations that PyTensor's numba backend implements",
            found=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}",
            todo="run pm.sample on the model by itself; replace custom operations by PyTensor's own",
        ) from error
    return engine


def numba_mode() -> Any:
    """Return PyTensor's numba mode, with PyMC's parameter checks as -inf in place of exceptions."""
    return get_mode("NUMBA").including("local_check_parameter_to_ninf_switch")


def _standard(target: Target) -> tuple[np.ndarray, ...]:
    """Return the arrays of the standard normal, to run a later link's functions once."""
    if not target.prior:
        return ()
    size = next(v.type.shape[0] for v in target.prior if v.name == "loc")
    return joint_normal(np.zeros(size), np.eye(size)).arrays()
