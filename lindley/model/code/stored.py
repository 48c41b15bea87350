"""The modules of a model as an archive: stored with a link, and imported from there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile, ZipInfo

from lindley.model.code.digests import file_digest
from lindley.model.code.imports import Module
from lindley.model.code.own import Lookup, OwnModule, among

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


def stored_modules(path: Path | None) -> Lookup:
    """Return a lookup of the modules in an archive; of none without one. Nothing is executed.

    Raises
    ------
    ValueError
        See `stored_files`.
    """
    files = {} if path is None else stored_files(path)
    modules = {
        _name(file): OwnModule(Path(str(path)) / file, data, PurePosixPath(file).stem == "__init__")
        for file, data in files.items()
        if file.endswith(".py")
    }
    return among(modules)


def _name(filename: str) -> str:
    place = PurePosixPath(filename).with_suffix("")
    parts = place.parts[:-1] if place.name == "__init__" else place.parts
    return ".".join(parts)
