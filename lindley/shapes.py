"""Shapes of JSON values, stated as data.

A shape is a type, a tuple of alternatives, a list with the one shape of its items, or a dict of fields by
name. The name `ANY` in a dict stands for every name that the dict does not list.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

#: Stands for every name that the dict does not list.
ANY = "*"


def misfits(value: Any, shape: Any, where: str = "") -> Iterator[str]:
    """Describe each place where a JSON value does not have a shape; nothing when it has it."""
    if isinstance(shape, tuple):
        found = [list(misfits(value, alternative, where)) for alternative in shape]
        yield from min(found, key=len)
    elif isinstance(shape, dict) and isinstance(value, dict):
        yield from _fields(value, shape, where)
    elif isinstance(shape, list) and isinstance(value, list):
        for position, item in enumerate(value):
            yield from misfits(item, shape[0], f"{where}[{position}]")
    elif not _is(value, shape):
        yield f"{where or 'the record'} is {_shown(value)}"


def _fields(value: dict[str, Any], shape: dict[str, Any], where: str) -> Iterator[str]:
    """Compare the fields of an object."""
    prefix = f"{where}." if where else ""
    for name in sorted(shape.keys() - {ANY} - value.keys()):
        yield f"{prefix}{name} is missing"
    for name, item in value.items():
        if name in shape:
            yield from misfits(item, shape[name], prefix + name)
        elif ANY in shape:
            yield from misfits(item, shape[ANY], prefix + name)
        else:
            yield f"{prefix}{name} is unknown"


def _is(value: Any, shape: Any) -> bool:
    """Whether a value that is no object or list has a shape."""
    if shape is None:
        return value is None
    if isinstance(shape, re.Pattern):
        return isinstance(value, str) and shape.fullmatch(value) is not None
    if shape is int or shape is float:
        # Canonical JSON writes 1.0 as 1; True is no number.
        return isinstance(value, int if shape is int else int | float) and not isinstance(value, bool)
    return isinstance(shape, type) and isinstance(value, shape)


def _shown(value: Any) -> str:
    text = (
        repr(value)
        if not isinstance(value, dict | list)
        else f"an {'object' if isinstance(value, dict) else 'array'}"
    )
    return text if len(text) <= 60 else f"{text[:57]}..."
