"""The code that a registered belief predicts with: it is served where Lindley is not installed, too."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

#: What a stored model imports, and what a model file may.
_START = (
    "lindley",
    "lindley.serving.predict",
    "lindley.batch.pandera_schema",
    "lindley.model.code.stored",
)
#: Blocks that are there for type checkers only.
_TYPES = re.compile(r"^if TYPE_CHECKING:\n(?:[ \t]+.*\n|\n)+", re.MULTILINE)
_FROM = re.compile(r"^[ \t]*from (lindley[\w.]*) import (\([^)]*\)|.*)$", re.MULTILINE)
_IMPORT = re.compile(r"^[ \t]*import (lindley[\w.]*)", re.MULTILINE)
#: Times in archives have no meaning here, and would differ from link to link.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


@cache  # the installed code does not change while a process runs it
def serving_source(*more: str) -> dict[str, bytes]:
    """Return the files that predicting needs, by path: modules of Lindley with all that they import of it.

    Parameters
    ----------
    more
        Names of further modules.
    """
    found: dict[str, bytes] = {}
    waiting = [*_START, *more]
    while waiting:
        name = waiting.pop()
        path, file = _file(name)
        if file is None or path in found:  # a name inside a module, or a module that is there already
            continue
        found[path] = file.read_bytes()
        text = _TYPES.sub("", found[path].decode())
        waiting += [name.rpartition(".")[0]] if "." in name else []
        waiting += _IMPORT.findall(text)
        for package, names in _FROM.findall(text):
            waiting += [package, *(f"{package}.{one}" for one in re.findall(r"\w+", names))]
    return dict(sorted(found.items()))


def write_source(path: Path, *more: str) -> None:
    """Write `serving_source` as an archive that Python imports from: the same bytes each time."""
    with ZipFile(path, "w") as archive:
        for name, data in serving_source(*more).items():
            archive.writestr(ZipInfo(name, _NO_TIME), data, ZIP_DEFLATED, 9)


def _file(name: str) -> tuple[str, Traversable | None]:
    """Return the path of a module and its file; no file where there is no such module."""
    top, *parts = name.split(".")
    place = files(top).joinpath(*parts) if parts else files(top)
    if place.joinpath("__init__.py").is_file():
        return "/".join([top, *parts, "__init__.py"]), place.joinpath("__init__.py")
    file = files(top).joinpath(*parts[:-1], f"{parts[-1]}.py") if parts else None
    return "/".join([top, *parts]) + ".py", file if file is not None and file.is_file() else None
