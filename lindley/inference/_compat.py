"""What Lindley uses of nutpie that has no public address, and nutpie without ArviZ.

`CompiledPyMCModel`
    `nutpie.compile_pymc_model` compiles a model by its own numba functions, in every process. Only this class
    of `nutpie.compile_pymc` takes the address of a log density that is compiled already, so that nutpie
    samples without Python; it takes private fields (``_n_dim``, ``_shapes``, ``_coords``).
`nutpie.compiled_pyfunc.from_pyfunc`, ``get_arrow_trace`` of `nutpie.sample`'s raw trace
    Public, and without a promise of stability.
`nutpie`
    It imports all of ArviZ, matplotlib included, to convert traces: a second at every start, for a function
    that Lindley does not call. nutpie has no setting to leave it out.

`tests/lindley/inference/test_compat.py` fails by name when one of these changes.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

__all__ = ["CompiledPyMCModel", "nutpie"]


class _WhenUsed(ModuleType):
    """A module that is imported when something of it is used."""

    def __getattr__(self, attribute: str) -> Any:
        return getattr(importlib.import_module(self.__name__), attribute)


@contextmanager
def _later(name: str) -> Iterator[None]:
    """Defer the import of a module by the code inside until it is used; other code imports it as usual."""
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = _WhenUsed(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


with _later("arviz"):
    import nutpie
    from nutpie.compile_pymc import CompiledPyMCModel
