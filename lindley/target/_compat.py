"""What Lindley uses of PyTensor's numba backend that has no public address.

`jitted`
    A function that `pytensor.function` made checks and converts its inputs in Python at every call. The
    machine code inside is only at ``function.vm.jit_fn``.
`cache_key`, `compile_source`
    PyTensor keeps numba's machine code on disk under keys of its own: `pytensor.link.numba.cache` maps each
    generated function to its key (``CACHED_SRC_FUNCTIONS``) and makes functions from source
    (``compile_numba_function_src``). numba's public ``cache=True`` keeps functions of files only: without
    these two, the outer functions, whose source is generated, would be compiled in every process.

`tests/lindley/target/test_compat.py` fails by name when one of these changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pytensor.link.numba.cache import CACHED_SRC_FUNCTIONS, compile_numba_function_src


def jitted(function: Any) -> Callable[..., Any]:
    """Return numba's dispatcher inside a function that `pytensor.function` made in numba mode."""
    found: Callable[..., Any] = function.vm.jit_fn
    return found


def cache_key(dispatcher: Any) -> str | None:
    """Return the key under which PyTensor keeps a dispatcher's machine code; None where it keeps none."""
    key: str | None = CACHED_SRC_FUNCTIONS.get(dispatcher.py_func)
    return key


def compile_source(source: str, name: str, scope: dict[str, Any], key: str | None) -> Callable[..., Any]:
    """Return a function from source, whose machine code numba keeps under `key` in PyTensor's cache.

    Parameters
    ----------
    source, name
        The source, and the function's name in it.
    scope
        Global names that it uses.
    key
        Identifies everything that the machine code depends on; None where it is not to be kept.
    """
    made: Callable[..., Any] = compile_numba_function_src(source, name, scope, cache_key=key)
    return made
