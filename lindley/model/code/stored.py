"""The modules of a model as an archive: stored with a link, and imported from there."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

from lindley.model.code.digests import file_digest
from lindley.model.code.imports import Module

#: Times in archives have no meaning here, and would differ from link to link.
_NO_TIME = (1980, 1, 1, 0, 0, 0)
#: Files and bytes of an archive beyond which it is not read: it was not written by `write_modules`.
_MOST_FILES, _MOST_BYTES = 10_000, 2**27


def write_modules(modules: Mapping[str, Module], path: Path) -> None:
    """Write the files of modules as an archive that Python imports from: the same bytes each time."""
    with ZipFile(path, "w") as archive:
        for module in sorted(modules.values(), key=lambda each: each.path):
            archive.writestr(ZipInfo(module.path, _NO_TIME), module.data, ZIP_DEFLATED, 9)


def stored_digests(path: Path) -> dict[str, str]:
    """Return the digest of each module in an archive by name; see `stored_files`."""
    return {_name(file): file_digest(data) for file, data in stored_files(path).items()}


def stored_files(path: Path) -> dict[str, bytes]:
    """Return the bytes of each file in an archive of modules. Nothing is executed.

    Raises
    ------
    ValueError
        If it is no such archive.
    """
    try:
        with ZipFile(path) as archive:
            items = archive.infolist()
            if len(items) > _MOST_FILES or sum(item.file_size for item in items) > _MOST_BYTES:
                raise ValueError(f"{len(items)} files, more than such an archive has")
            return {item.filename: archive.read(item) for item in items}
    except (BadZipFile, OSError, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"no archive: {error}") from error


@contextmanager
def stored_modules(path: Path | None) -> Iterator[None]:
    """Import the modules of an archive inside, in place of any of the same names; afterwards the others.

    What is imported inside keeps what it imported. Not for several threads at once. None: change nothing.
    """
    if path is None:
        yield
        return
    tops = {name.partition(".")[0] for name in stored_digests(path)}

    def taken() -> dict[str, object]:
        names = [name for name in sys.modules if name.partition(".")[0] in tops]
        return {name: sys.modules.pop(name) for name in names}

    before = taken()
    sys.path.insert(0, str(path))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path.remove(str(path))
        sys.path_importer_cache.pop(str(path), None)
        taken()
        sys.modules.update(before)  # type: ignore[arg-type]  # they came from there
        importlib.invalidate_caches()


def _name(filename: str) -> str:
    place = PurePosixPath(filename).with_suffix("")
    parts = place.parts[:-1] if place.name == "__init__" else place.parts
    return ".".join(parts)
