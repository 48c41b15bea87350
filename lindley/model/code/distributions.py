"""Installed distributions: which one a module belongs to, their versions, and the code of small ones.

A version identifies the libraries that Lindley itself is made with. A distribution beside these may be a
helper that is installed again and again under one version: the digest of its Python files is recorded too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: What nearly every model needs: their requirements are found faster than Lindley's own.
_USUAL = ("pymc", "pandas", "pyarrow", "pandera")


@dataclass(frozen=True)
class Owner:
    """The distribution of a module.

    Parameters
    ----------
    name
        Its normalised name.
    holds
        Whether it holds the module's file itself. An editable install does not: its files may change.
    """

    name: str
    holds: bool


def owner(top: str, file: str | None, folders: Sequence[str]) -> Owner | None:
    """Return the distribution that a module belongs to; None where there is none.

    Parameters
    ----------
    top
        The first part of the module's name.
    file, folders
        Its file, and the folders of a package.
    """
    places = [*([file] if file else []), *folders]
    found: Owner | None = None
    for name in _candidates(top, tuple(places)):
        held = distribution(name)
        if _holds(held, file, folders):
            return Owner(_normal(name), holds=True)
        found = found or Owner(_normal(name), holds=False)
    return found


def is_required(top: str) -> bool:
    """Return whether a module belongs to what Lindley requires, by the first part of its name."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return False
    if spec is None:
        return False
    file = spec.origin if spec.has_location else None
    found = owner(top, file, list(spec.submodule_search_locations or ()))
    return found is not None and found.name in (_required(_USUAL) | _required(("lindley",))) - {"lindley"}


def versions(direct: Sequence[str]) -> dict[str, str]:
    """Return the versions of distributions, and of all that they require, by normalised name."""
    return {name: _version(name) for name in sorted(_required(tuple(direct)))}


def direct_versions(direct: Sequence[str]) -> dict[str, str]:
    """Return the versions of distributions by normalised name."""
    return {name: _version(name) for name in direct}


def contents(direct: Sequence[str]) -> dict[str, str]:
    """Return the digests of the Python files of distributions that Lindley does not itself require.

    Those that the given ones require are looked at too; one whose files are elsewhere, as those of an
    editable install are, or not listed, has no digest.
    """
    every = _required(tuple(direct)) - _required(_USUAL)
    other = every - _required(("lindley",)) if every else every  # slower, and seldom needed
    found = {name: _content(name) for name in sorted(other)}
    return {name: digest for name, digest in found.items() if digest is not None}


@cache  # as for all here: what is installed does not change while a process runs it
def _version(name: str) -> str:
    return distribution(name).version


@cache
def _content(name: str) -> str | None:
    held = distribution(name)
    files = sorted(str(file) for file in held.files or () if file.suffix == ".py" and ".." not in file.parts)
    total, some = hashlib.sha256(), False
    for file in files:
        try:
            data = Path(str(held.locate_file(file))).read_bytes()
        except OSError:
            continue
        some = some or not file.startswith("__editable__")
        total.update(f"{file}\n{hashlib.sha256(data).hexdigest()}\n".encode())
    return total.hexdigest() if some else None


@cache
def _required(direct: tuple[str, ...]) -> frozenset[str]:
    """Return normalised names of installed distributions and of all that they require, without extras."""
    found, waiting = set[str](), list(direct)
    while waiting:
        name = _normal(waiting.pop())
        if name in found:
            continue
        try:
            wanted = distribution(name).requires or ()
        except PackageNotFoundError:  # of another platform, or of the code that is stored with a belief
            continue
        found.add(name)
        for requirement in wanted:
            text, _, marker = requirement.partition(";")
            stated = _NAME.match(text)
            waiting += [stated[0]] if stated and "extra" not in marker else []
    return frozenset(found)


@cache
def _candidates(top: str, places: tuple[str, ...]) -> tuple[str, ...]:
    """Return the distributions that may own a module of this name, the most likely one first."""
    try:
        named = [distribution(top).name]
    except (PackageNotFoundError, ValueError):
        named = []
    if any(_holds(distribution(name), None, places) for name in named):
        return tuple(named)
    # Reading what all distributions own takes a second: only where something was installed beside the module.
    roots = {Path(place).parent for place in places}
    if any(True for root in roots if root.is_dir() for _ in root.glob("*.dist-info")):
        named += [name for name in packages_distributions().get(top, ()) if name not in named]
    return tuple(named)


def _holds(held: Distribution, file: str | None, folders: Sequence[str]) -> bool:
    """Whether a distribution lists a module's file, or something in its folder, among its own."""
    listed = _listed(held.name)
    root, places = Path(str(held.locate_file(""))), [Path(place) for place in [file or "", *folders]]
    ours = [place.relative_to(root).as_posix() for place in places if place.is_relative_to(root)]
    return any(f"\n{place}," in listed or f"\n{place}/" in listed for place in ours)


@cache
def _listed(name: str) -> str:
    return "\n" + (distribution(name).read_text("RECORD") or "")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
