"""Modules of a model file's own: beside it in its folder, or stored with a link.

They are executed as parts of the model, under names of their own: modules of one name in the folders of
several chains do not mix in a process, and they neither hide anything of Python's nor are hidden. An
``import`` statement of the model file, or of such a module, finds them first, at any time; other code does
not find them.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from lindley.model.code.distributions import is_required

#: What the name of a module begins with under which a model file is executed.
PRIVATE = "_lindley_model_"
#: Lindley is the engine that runs a model, and recorded by its version.
ENGINE = "lindley"


@dataclass(frozen=True)
class OwnModule:
    """A module of a model's own.

    Parameters
    ----------
    path
        Its file, or the folder of a package without one.
    data
        The bytes of the file; None for a package without one.
    is_package
        Whether it holds other modules.
    """

    path: Path
    data: bytes | None = field(repr=False)
    is_package: bool = False


#: Finds a module by its name as model code writes it; None where it is not among the model's own.
Lookup = Callable[[str], OwnModule | None]


def beside(model: Path) -> Lookup:
    """Return a lookup of the modules beside a model file. Each file is read once.

    Modules of Python itself, of Lindley and of what it requires are not looked for there, nor is the model
    file. A folder without `__init__.py` counts where Python finds no module of its name.
    """
    known: dict[str, OwnModule | None] = {}

    def lookup(name: str) -> OwnModule | None:
        if name not in known:
            known[name] = _read(model, name)
        return known[name]

    return lookup


def among(modules: Mapping[str, OwnModule]) -> Lookup:
    """Return a lookup in modules by name; a package is found by what is in it, too."""
    tops = {name.rpartition(".")[0] for name in modules} - {""}
    packages = {".".join(top.split(".")[:size]) for top in tops for size in range(1, top.count(".") + 2)}
    whole = {name: OwnModule(Path(name), None, is_package=True) for name in packages} | dict(modules)
    return whole.get


def _read(model: Path, name: str) -> OwnModule | None:
    parts = name.split(".")
    if parts[0] in {ENGINE, model.stem, *sys.stdlib_module_names} or not all(map(str.isidentifier, parts)):
        return None
    place = model.parent.joinpath(*parts)
    for path in (place / "__init__.py", place.with_name(f"{place.name}.py")):
        if path.is_file():
            if is_required(parts[0]):
                return None
            return OwnModule(path, path.read_bytes(), is_package=path.stem == "__init__")
    holds = place.is_dir() and any(place.rglob("*.py"))
    if not holds or (len(parts) == 1 and _elsewhere(name)):
        return None
    return OwnModule(place, None, is_package=True)


def _elsewhere(top: str) -> bool:
    """Whether Python finds a module of this name."""
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return top in sys.modules


def public_name(module: str) -> str:
    """Return a module's name as model code writes it; empty for that of a model file."""
    return module.partition(".")[2] if module.startswith(PRIVATE) else module


# -- executing them ---------------------------------------------------------------------------------------


class ReadOnce(SourceFileLoader):
    """Executes the bytes that were read, and no bytecode.

    A file may be saved while its model is fitted, and the record must hold the code that ran. Bytecode on
    disk is compared with the file by size and second of change only.
    """

    def __init__(self, fullname: str, path: Path, data: bytes) -> None:
        super().__init__(fullname, str(path))
        self._data = data

    def get_data(self, path: str) -> bytes:
        """Return the bytes that were read."""
        return self._data if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        """Compile them."""
        return self.source_to_code(self._data, self.path)

    def exec_module(self, module: ModuleType) -> None:
        """Execute it; its ``import`` statements find the modules of the model first."""
        prefix = module.__name__.partition(".")[0]
        if prefix in _tables:
            vars(module)["__builtins__"] = _builtins(prefix, _tables[prefix])
        super().exec_module(module)


class _Finder:
    """Finds the modules of models by their names in this process."""

    @staticmethod
    def find_spec(fullname: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        prefix, _, name = fullname.partition(".")
        found = _tables.get(prefix, {}).get(name)
        if found is None:
            return None
        loader = None if found.data is None else ReadOnce(fullname, found.path, found.data)
        spec = ModuleSpec(fullname, loader, origin=str(found.path), is_package=found.is_package)
        spec.has_location = loader is not None  # so that the module has `__file__`
        return spec


#: Held while a model is executed and while it imports modules of its own: each load executes them anew.
LOADING = threading.RLock()
#: The modules of each model that has any, by the name that the model is executed under.
_tables: dict[str, Mapping[str, OwnModule]] = {}


def hold(prefix: str, modules: Mapping[str, OwnModule]) -> None:
    """Let the code of a model find its modules, as long as this process lives."""
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)
    _tables[prefix] = modules


def forget(prefix: str) -> None:
    """Let the modules of a model be executed anew at their next import."""
    for name in [name for name in sys.modules if name.startswith(f"{prefix}.")]:
        sys.modules.pop(name, None)


def _builtins(prefix: str, modules: Iterable[str]) -> dict[str, Any]:
    """Return what is built in for the code of a model: with an import of its own."""
    tops = {name.partition(".")[0] for name in modules}

    def own_import(
        name: str,
        globals_: Any = None,
        locals_: Any = None,
        fromlist: tuple[str, ...] = (),
        level: int = 0,
    ) -> Any:
        top = name.partition(".")[0]
        if level == 0 and top == "importlib":
            found = builtins.__import__(name, globals_, locals_, fromlist, 0)
            return _with_import_module(found, own_module) if name == top or not fromlist else found
        if level == 0 and top not in tops:
            return builtins.__import__(name, globals_, locals_, fromlist, 0)
        try:
            with LOADING:
                if level:
                    return builtins.__import__(name, globals_, locals_, fromlist, level)
                found = builtins.__import__(f"{prefix}.{name}", globals_, locals_, fromlist, 0)
                return found if fromlist else importlib.import_module(f"{prefix}.{top}")
        except ModuleNotFoundError as error:
            missing = public_name(error.name or "")
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing, path=error.path) from None

    def own_module(name: str, package: str | None = None) -> ModuleType:
        if name.partition(".")[0] not in tops:
            return importlib.import_module(name, package)
        with LOADING:
            return importlib.import_module(f"{prefix}.{name}")

    return vars(builtins) | {"__import__": own_import}


def _with_import_module(found: ModuleType, import_module: Callable[..., ModuleType]) -> ModuleType:
    """Return `importlib` with another `import_module`."""
    same = ModuleType(found.__name__, found.__doc__)
    vars(same).update(vars(found) | {"import_module": import_module})
    return same
