"""Model files are loaded as they are, in a process that loaded them before as well."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lindley.declaration import load_file
from lindley.errors import DeclarationRefused
from tests import fakes


def test_a_file_that_changed_is_loaded_as_it_is_now(tmp_path: Path):
    first = fakes.declare(tmp_path, code="\nCHANCE = 1\n")
    then = first.source.stat().st_mtime_ns
    second = fakes.declare(tmp_path, code="\nCHANCE = 2\n")
    # Same size, same time: nothing but the content tells.
    os.utime(second.source, ns=(then, then))
    third = load_file(second.source)
    assert third.build.__globals__["CHANCE"] == 2
    assert third.model_digest == second.model_digest
    assert not list(tmp_path.glob("**/*.pyc"))


def test_the_bytecode_of_somebody_else_is_not_run(tmp_path: Path):
    import py_compile

    made = fakes.declare(tmp_path, code="\nCHANCE = 1\n")
    then = made.source.stat().st_mtime_ns
    py_compile.compile(str(made.source))
    fakes.declare(tmp_path, code="\nCHANCE = 2\n")
    os.utime(made.source, ns=(then, then))
    assert load_file(made.source).build.__globals__["CHANCE"] == 2


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path):
    with pytest.raises(DeclarationRefused, match=r"missing\.py cannot be imported.*FileNotFoundError"):
        load_file(tmp_path / "missing.py")
