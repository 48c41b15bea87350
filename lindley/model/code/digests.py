"""Digests of Python code: what a model's code is identified by."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from functools import lru_cache


@lru_cache(maxsize=64)  # asked for several times in each update
def source_digest(text: str) -> str:
    """Return the sha256 of Python source with comments, layout and docstrings left out."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        match getattr(node, "body", None):
            case [ast.Expr(value=ast.Constant(value=str()) as docstring), *_]:
                docstring.value = ""
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def file_digest(data: bytes) -> str:
    """Return the digest of a module's file: of its Python source, or of its bytes where it is none."""
    try:
        return source_digest(data.decode("utf-8-sig").replace("\r\n", "\n"))
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return hashlib.sha256(data).hexdigest()


def model_digest(source: str, modules: Mapping[str, str]) -> str:
    """Return the digest of a model's code.

    Parameters
    ----------
    source
        Digest of its file.
    modules
        Digest by name of each module that it imports and that belongs to no installed distribution.
    """
    if not modules:
        return source
    lines = ["lindley-model/1", source, *(f"{name}:{modules[name]}" for name in sorted(modules))]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
