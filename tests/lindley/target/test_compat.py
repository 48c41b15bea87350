"""An upgrade that changes a private name of PyTensor or PyMC in `lindley.target` fails here, by name."""

from __future__ import annotations

import inspect
from typing import Any

import numba
import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pytensor.link.numba import cache

from lindley.target import _compat
from lindley.target.engine import numba_function

LOOK = "changed: mend lindley/target/_compat.py, then the test"


def doubled() -> Any:
    x = pt.vector("x")
    return numba_function([x], [2 * x])


def test_the_function_inside_a_compiled_graph_is_a_dispatcher_of_numba() -> None:
    function = doubled()
    assert hasattr(function.vm, "jit_fn"), f"function.vm.jit_fn {LOOK}"
    dispatcher = _compat.jitted(function)
    assert hasattr(dispatcher, "py_func"), f"function.vm.jit_fn {LOOK}"
    assert dispatcher(np.array([1.0, 2.0]))[0].tolist() == [2.0, 4.0], f"function.vm.jit_fn {LOOK}"


def test_pytensor_keeps_machine_code_under_a_key_by_function() -> None:
    assert hasattr(cache, "CACHED_SRC_FUNCTIONS"), f"CACHED_SRC_FUNCTIONS {LOOK}"
    key = _compat.cache_key(_compat.jitted(doubled()))
    assert isinstance(key, str), f"CACHED_SRC_FUNCTIONS {LOOK}"
    assert _compat.cache_key(numba.njit(lambda x: x)) is None, f"CACHED_SRC_FUNCTIONS {LOOK}"


def test_a_function_from_source_is_kept_under_its_key() -> None:
    wanted = {"src", "function_name", "global_env", "cache_key"}
    found = set(inspect.signature(cache.compile_numba_function_src).parameters)
    assert wanted <= found, f"compile_numba_function_src {LOOK}"
    hits, source = [], "def seven():\n    return 7.0"
    for _ in range(2):
        function = _compat.compile_source(source, "seven", {"__name__": __name__}, "a key")
        made = numba.cfunc(numba.types.double(), cache=True)(function)
        assert made.ctypes() == 7.0
        hits.append(made.cache_hits)
    assert hits[1] == 1, f"compile_numba_function_src {LOOK}"


def test_impossible_parameters_have_density_zero_instead_of_an_exception() -> None:
    sigma = pt.scalar("sigma")
    density = numba_function([sigma], [pm.logp(pm.Normal.dist(0, sigma), 0.0)])
    assert density(-1.0)[0] == -np.inf, f"local_check_parameter_to_ninf_switch {LOOK}"
