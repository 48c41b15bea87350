"""The code that a model runs beside its own file: modules on Python's path, and installed distributions.

A module that belongs to an installed distribution is identified by the distribution's version. Every other
module, such as one of a folder on ``PYTHONPATH`` or of an editable install, is code like the model file
itself: it has a digest, its source is stored, and what it imports is looked at in the same way. Imports are
read from the source, those inside functions included. A module that is only named by a computed text is not
found; what it does to the model is found in the model's structure (`lindley.model.structure`).
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from weakref import WeakKeyDictionary

from lindley.model.code.digests import file_digest
from lindley.model.code.distributions import contents, owner, versions

#: Lindley is the engine that runs a model, and recorded by its version.
_ENGINE = "lindley"
_IMPORTERS = ("import_module", "__import__")
#: The digest of a module's file when this process first asked for it.
_first_seen: WeakKeyDictionary[ModuleType, str] = WeakKeyDictionary()


@dataclass(frozen=True)
class Module:
    """A module that belongs to no installed distribution.

    Parameters
    ----------
    digest
        See `lindley.model.code.digests.file_digest`.
    path
        Where it lies below the folder that Python finds it in.
    data
        Its file.
    """

    digest: str
    path: str
    data: bytes = field(repr=False)


@dataclass(frozen=True)
class Imports:
    """What a model imports.

    Parameters
    ----------
    modules
        Modules that belong to no installed distribution, by name.
    distributions
        Names of the distributions that model file and modules import.
    """

    modules: Mapping[str, Module] = field(default_factory=dict)
    distributions: tuple[str, ...] = ()

    @property
    def digests(self) -> dict[str, str]:
        """Digest of each module by name."""
        return {name: module.digest for name, module in self.modules.items()}

    def as_dict(self) -> dict[str, dict[str, str]]:
        """Return modules, and versions and contents of distributions, as the record of a link states them."""
        return {
            "modules": self.digests,
            "distributions": versions(self.distributions),
            "contents": contents(self.distributions),
        }


def imports_of(text: str, module: ModuleType) -> Imports:
    """Return what a model file imports, directly or through modules that belong to no distribution.

    Parameters
    ----------
    text
        The file's source.
    module
        The module that it was executed as.
    """
    found: dict[str, Module] = {}
    owners = set[str]()
    bound = (value.__name__ for value in vars(module).values() if isinstance(value, ModuleType))
    waiting, seen = [*_imported(text, ""), *bound], set[str]()
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in seen or top in sys.stdlib_module_names or top == _ENGINE or not top:
            continue
        seen.add(name)
        spec = _spec(name)
        if spec is None:  # a name inside a module, or a module that is not there
            continue
        distribution = owner(top, _file(spec), _folders(spec))
        owners.update({distribution.name} if distribution else ())
        if distribution is not None and distribution.holds:
            continue
        waiting += _parents(name)
        data = _data(spec)
        if data is None:
            continue
        found[name] = Module(file_digest(data), _path(name, spec), data)
        package = name if spec.submodule_search_locations is not None else name.rpartition(".")[0]
        waiting += _imported(data.decode("utf-8-sig", "replace"), package)
    return Imports(dict(sorted(found.items())), tuple(sorted(owners)))


def forget_changed(imports: Imports) -> bool:
    """Take modules whose files changed since they were imported out of this process; return if there were.

    The model file then has to be executed again: it imports them anew. A process that carries out many runs
    would otherwise go on with old code.
    """
    changed = False
    for name, module in imports.modules.items():
        loaded = sys.modules.get(name)
        if loaded is None:
            continue
        changed = changed or _first_seen.setdefault(loaded, module.digest) != module.digest
    if changed:  # and those that import them
        for name in imports.modules:
            sys.modules.pop(name, None)
        importlib.invalidate_caches()
    return changed


def _imported(text: str, package: str) -> Iterator[str]:
    """Yield the names that source may import modules by: of what it imports, and of each name within."""
    try:
        tree = ast.parse(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):  # machine code, or a module never imported
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                parts = package.split(".")
                base = parts[: len(parts) - level + 1] if level and package else []
                start = ".".join([*base, *([module] if module else [])])
                yield start
                yield from (f"{start}.{name.name}" for name in names)
            case ast.Call(
                func=ast.Name(id=called) | ast.Attribute(attr=called),
                args=[ast.Constant(value=str() as name), *_],
            ) if called in _IMPORTERS:
                yield name


def _parents(name: str) -> Iterable[str]:
    """Return the packages that a module is in, which Python executes with it."""
    parts = name.split(".")
    return (".".join(parts[:size]) for size in range(1, len(parts)))


def _spec(name: str) -> ModuleSpec | None:
    """Return how Python finds a module, without importing it or its packages."""
    loaded = getattr(sys.modules.get(name), "__spec__", None)
    if loaded is not None:
        return loaded
    parent = name.rpartition(".")[0]
    try:
        if not parent:
            return importlib.util.find_spec(name)
        above = _spec(parent)
        locations = None if above is None else above.submodule_search_locations
        return None if locations is None else PathFinder.find_spec(name, list(locations))
    except (ImportError, ValueError, AttributeError):  # whatever a finder that was added raises
        return None


def _file(spec: ModuleSpec) -> str | None:
    return spec.origin if spec.has_location else None


def _folders(spec: ModuleSpec) -> list[str]:
    return list(spec.submodule_search_locations or ())


def _data(spec: ModuleSpec) -> bytes | None:
    """Return the file of a module; None for a package without one, or a module that is built in."""
    try:
        reader = getattr(spec.loader, "get_source", None)
        source = reader(spec.name) if reader is not None else None
        if source is not None:
            return source.encode("utf-8", "surrogatepass")
        return Path(spec.origin).read_bytes() if spec.has_location and spec.origin else None
    except (OSError, ImportError, ValueError):
        return None


def _path(name: str, spec: ModuleSpec) -> str:
    """Return where a module lies below the folder that Python finds it in."""
    place = name.replace(".", "/")
    suffix = "".join(Path(spec.origin or "").suffixes[-1:]) or ".py"
    return f"{place}/__init__{suffix}" if spec.submodule_search_locations is not None else place + suffix
