"""Execute a model file: the bytes that were read, and no bytecode."""

from __future__ import annotations

import importlib.util
import io
import sys
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType


class _ReadOnce(SourceFileLoader):
    """Executes the bytes that were read, and no bytecode.

    A file may be saved while its model is fitted, and the record must hold the code that ran. Bytecode on
    disk is compared with the file by size and second of change only.
    """

    def __init__(self, fullname: str, path: Path, data: bytes) -> None:
        super().__init__(fullname, str(path))
        self._data = data

    def get_data(self, path: str) -> bytes:
        return self._data if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self._data, self.path)


def executed(path: Path, module_name: str) -> tuple[ModuleType, str]:
    """Read a Python file once; return the module that its code made, and this code as text."""
    data = path.read_bytes()
    code = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    loader = _ReadOnce(module_name, path, data)
    spec = ModuleSpec(module_name, loader, origin=str(path))
    spec.has_location = True  # so that the module has `__file__`
    module = importlib.util.module_from_spec(spec)
    # Registered before execution so that dataclasses and pandera models in the file resolve their names.
    sys.modules[module_name] = module
    loader.exec_module(module)
    return module, code
