"""nutpie, without what it imports and Lindley does not use."""

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
    """Let what is imported inside import a module when it is used; everybody else imports it as always."""
    if name in sys.modules:
        yield
        return
    stand_in = sys.modules[name] = _WhenUsed(name)
    try:
        yield
    finally:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]


# All of ArviZ, matplotlib included, takes a second; nutpie converts traces with it, which is not asked here.
with _later("arviz"):
    import nutpie
    from nutpie.compile_pymc import CompiledPyMCModel
