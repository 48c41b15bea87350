"""The shape of a record: which fields it has and of what type each one is.

A shape is a type, a tuple of alternatives, a list with the one shape of its items, or a dict: of fields
by name, or with `ANY` for a mapping whose names are free. Fields of a record are never optional; where
more is allowed than the shape names, it says so with `ANY`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

#: Stands for every name that the dict does not list.
ANY = "*"
DIGEST = re.compile(r"[0-9a-f]{64}")
_TEXTS = {ANY: str}
_NUMBERS = {ANY: float}

_MODEL = {"digest": DIGEST, "carried": [str], "carry": _TEXTS}
GENESIS_SHAPE_1 = {
    "schema": str,
    "kind": str,
    "chain": str,
    "previous": None,
    "prior": None,
    "model": _MODEL | {"observed": [str], "row_key": [str]},
}
LINK_SHAPE_1 = {
    "schema": str,
    "kind": str,
    "chain": str,
    "previous": DIGEST,
    "prior": DIGEST,
    "prior_belief": (DIGEST, None),
    "model": _MODEL
    | {"graph": str, "likelihood": _TEXTS, "genesis": {ANY: _TEXTS}, "inlined_constants": int},
    "batch": (
        {"digest": DIGEST, "rows": int, "row_key": [str], "key_ranges": {ANY: [str]}, "origin": str},
        None,
    ),
    "posterior": {
        "family": str,
        "reason": str,
        "coordinates": [
            {
                "name": str,
                "shape": [int],
                "value_shape": [int],
                "transform": str,
                "dims": [str],
                "labels": [[str]],
            }
        ],
        "matched": DIGEST,
        "draws": DIGEST,
    },
    "sampler": {ANY: (str, float)},
    "thresholds": {"r_hat": float, "ess": float, "divergences": float} | _NUMBERS,
    "metrics": _NUMBERS,
    "gate": {"passed": bool, "reasons": [str], "warnings": [str]},
    "libraries": _TEXTS,
    "artifacts": {ANY: DIGEST},
}


_POLICY = {
    "family": str,
    "replay": int,
    "rebase_every": (int, None),
    "rebase_at_budget": (float, None),
    "robust": float,
    "conflict": str,
    "forget": {ANY: dict},
}
_REFITTED = _POLICY | {"rebase_at_drift": float}
#: What schema 2 added, and what it is in a record of schema 1.
_ADDED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "": (
        # Empty where a link goes back to one of schema 1, which had no policy.
        {"replayed": [DIGEST], "retracted": [DIGEST], "policy": (_POLICY, _REFITTED, {}), "forgetting": dict},
        {"replayed": [], "retracted": [], "policy": {}, "forgetting": {}},
    ),
    "model": ({"constants": _NUMBERS}, {"constants": {}}),
    "batch": (
        {
            "context": ({"rows": int, "digest": DIGEST}, None),
            "dropped": ({"rows": int, "digest": DIGEST, "links": [DIGEST]}, None),
        },
        {"context": None, "dropped": None},
    ),
    "posterior": (
        {"moments": str, "shrinkage": float, "distances": _NUMBERS, "doubts": [str], "pooled": str},
        {"moments": "draws", "shrinkage": 0.0, "distances": {}, "doubts": [], "pooled": ""},
    ),
}
_ADDED_GENESIS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "": ({"branch": ({"chain": str, "record": DIGEST}, None)}, {"branch": None}),
    "model": ({"constants": _NUMBERS, "context": int}, {"constants": {}, "context": 0}),
}


def _grown(shape: dict[str, Any], added: dict[str, tuple[dict[str, Any], dict[str, Any]]]) -> dict[str, Any]:
    """Return a shape with fields added."""
    found = shape | added.get("", ({}, {}))[0]
    for name, (fields, _) in added.items():
        if name == "batch":
            found[name] = (shape[name][0] | fields, None)
        elif name:
            found[name] = shape[name] | fields
    return found


GENESIS_SHAPE = _grown(GENESIS_SHAPE_1, _ADDED_GENESIS)
LINK_SHAPE = _grown(LINK_SHAPE_1, _ADDED)


def completed(record: dict[str, Any]) -> dict[str, Any]:
    """Return a record with the fields that later schemas added, as they were before."""
    added = _ADDED_GENESIS if record["kind"] == "genesis" else _ADDED
    found = added.get("", ({}, {}))[1] | record
    for name, (_, before) in added.items():
        if name and record[name] is not None:
            found[name] = before | record[name]
    return found


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
