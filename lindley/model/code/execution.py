"""Execute a model file with the modules of its own: the bytes that were read, and no bytecode."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from lindley.model.code.imports import Imports, forget_changed, imports_of, own_modules
from lindley.model.code.own import LOADING, PRIVATE, Lookup, OwnModule, ReadOnce, forget, hold


def executed(path: Path, lookup: Lookup, *, stored: bool = False) -> tuple[ModuleType, str, Imports]:
    """Read a Python file once; return the module that its code made, this code as text, and what it imports.

    Parameters
    ----------
    lookup
        Finds the modules of its own.
    stored
        Whether the code comes from a link.
    """
    data = path.read_bytes()
    code = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()
    own = own_modules(code, lookup)
    name = _private_name(path, data, own, stored)
    with LOADING if own else nullcontext():
        try:
            module = _execute(path, data, name, own)
            imports = imports_of(code, module, own)
            if forget_changed(imports):
                module = _execute(path, data, name, own)
                imports = imports_of(code, module, own)
                forget_changed(imports)
        except BaseException:
            sys.modules.pop(name, None)
            raise
    return module, code, imports


def _private_name(path: Path, data: bytes, modules: Mapping[str, OwnModule], stored: bool) -> str:
    """Return the name that a model file is executed under.

    It depends on the code of the model's own modules: other code has another name, so that what was loaded
    before keeps its own. Stored code is the same wherever it lies.
    """
    parts = [] if stored else [str(path).encode()]
    if stored or modules:
        parts.append(data)
    for name in sorted(modules):
        parts += [name.encode(), modules[name].data or b""]
    total = hashlib.sha256()
    for part in parts:
        total.update(b"%d:" % len(part) + part)
    return f"{PRIVATE}{total.hexdigest()[:12]}"


def _execute(path: Path, data: bytes, name: str, modules: Mapping[str, OwnModule]) -> ModuleType:
    """Execute the bytes of a Python file as a module of a name, with modules of its own."""
    loader = ReadOnce(name, path, data)
    spec = ModuleSpec(name, loader, origin=str(path), is_package=bool(modules))
    spec.has_location = True  # so that the module has `__file__`
    module = importlib.util.module_from_spec(spec)
    if modules:
        hold(name, modules)
        forget(name)
    # Registered before execution so that dataclasses and pandera models in the file resolve their names.
    sys.modules[name] = module
    loader.exec_module(module)
    return module
