"""The code that a model runs beside its own file: modules, and installed distributions.

Modules of its own lie beside it, or are stored with it (`lindley.model.code.own`). A module that belongs to
an installed distribution is identified by the distribution's version. Every other module, such as one of a
folder on ``PYTHONPATH`` or of an editable install, is code like the model file itself: it has a digest, its
source is stored, and what it imports is looked at in the same way. Imports are read from the source, those
inside functions included. A module that is only named by a computed text is not found; what it does to the
model is found in the model's structure (`lindley.model.structure`).
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
from lindley.model.code.own import ENGINE, PRIVATE, Lookup, OwnModule

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
    own
        Names of the modules that are the model's own.
    """

    modules: Mapping[str, Module] = field(default_factory=dict)
    distributions: tuple[str, ...] = ()
    own: frozenset[str] = frozenset()

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


def own_modules(text: str, lookup: Lookup) -> dict[str, OwnModule]:
    """Return the modules of a model's own that it imports, directly or through each other, by name."""
    found: dict[str, OwnModule] = {}
    waiting, seen = list(_imported(text, "")), {""}
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        waiting += _parents(name)
        module = lookup(name)
        if module is None:
            continue
        found[name] = module
        waiting += _imported(_text(module.data), _package(name, module.is_package))
    return dict(sorted(found.items()))


def imports_of(text: str, module: ModuleType, own: Mapping[str, OwnModule] | None = None) -> Imports:
    """Return what a model file imports, directly or through modules that belong to no distribution.

    Parameters
    ----------
    text
        The file's source.
    module
        The module that it was executed as.
    own
        The modules of its own that it imports.

    Raises
    ------
    ImportError
        If two modules that run have the same name.
    """
    own = own or {}
    found = {
        name: Module(file_digest(each.data), _own_path(name, each), each.data)
        for name, each in own.items()
        if each.data is not None
    }
    names = list(_imported(text, ""))
    for name, each in own.items():
        names += _imported(_text(each.data), _package(name, each.is_package))
    names += (value.__name__ for value in vars(module).values() if isinstance(value, ModuleType))
    elsewhere, owners = _elsewhere(name for name in names if name not in own)
    twice = sorted(found.keys() & elsewhere.keys())
    if twice:
        raise ImportError(
            f"two modules are named {twice[0]}: one beside the model file, one on Python's path"
        )
    return Imports(dict(sorted((found | elsewhere).items())), tuple(sorted(owners)), frozenset(own))


def _elsewhere(names: Iterable[str]) -> tuple[dict[str, Module], set[str]]:
    """Return the modules on Python's path that names lead to, and the distributions of others."""
    found: dict[str, Module] = {}
    owners = set[str]()
    waiting, seen = list(names), set[str]()
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in seen or top in sys.stdlib_module_names or top == ENGINE or not top:
            continue
        seen.add(name)
        spec = None if top.startswith(PRIVATE) else _spec(name)
        if spec is None:  # a name inside a module, a module that is not there, or one of the model's own
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
        waiting += _imported(_text(data), _package(name, spec.submodule_search_locations is not None))
    return found, owners


def forget_changed(imports: Imports) -> bool:
    """Take modules whose files changed since they were imported out of this process; return if there were.

    The model file then has to be executed again: it imports them anew. A process that carries out many runs
    would otherwise go on with old code.
    """
    changed = False
    others = {name: module for name, module in imports.modules.items() if name not in imports.own}
    for name, module in others.items():
        loaded = sys.modules.get(name)
        if loaded is None:
            continue
        changed = changed or _first_seen.setdefault(loaded, module.digest) != module.digest
    if changed:  # and those that import them
        for name in others:
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


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8-sig", "replace")


def _package(name: str, is_package: bool) -> str:
    """Return the package that relative imports of a module begin in."""
    return name if is_package else name.rpartition(".")[0]


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


def _own_path(name: str, module: OwnModule) -> str:
    return name.replace(".", "/") + ("/__init__.py" if module.is_package else ".py")
