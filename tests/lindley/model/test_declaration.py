"""Model files are loaded as they are, in a process that loaded them before as well."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from lindley.errors import DeclarationRefused
from lindley.model.declaration import load_file
from tests.support import fakes


def test_a_file_that_changed_is_loaded_as_it_is_now(tmp_path: Path):
    first = fakes.declare(tmp_path, code="\nCHANCE = 1\n")
    then = first.file.stat().st_mtime_ns
    second = fakes.declare(tmp_path, code="\nCHANCE = 2\n")
    # Same size, same time: nothing but the content tells.
    os.utime(second.file, ns=(then, then))
    third = load_file(second.file)
    assert third.build.__globals__["CHANCE"] == 2
    assert third.model_digest == second.model_digest
    assert not list(tmp_path.glob("**/*.pyc"))


def test_the_bytecode_of_somebody_else_is_not_run(tmp_path: Path):
    import py_compile

    made = fakes.declare(tmp_path, code="\nCHANCE = 1\n")
    then = made.file.stat().st_mtime_ns
    py_compile.compile(str(made.file))
    fakes.declare(tmp_path, code="\nCHANCE = 2\n")
    os.utime(made.file, ns=(then, then))
    assert load_file(made.file).build.__globals__["CHANCE"] == 2


@pytest.mark.parametrize("saved", ["CHANCE = 2\n", "def half_saved(", "", None])
def test_code_is_what_was_executed_whatever_becomes_of_the_file(saved: str | None, tmp_path: Path):
    made = fakes.declare(tmp_path, code="\nCHANCE = 1\n")
    text, stated = made.source_text, made.model_digest
    assert text == made.file.read_text(encoding="utf-8")
    if saved is None:
        made.file.unlink()
    else:
        made.file.write_text(saved, encoding="utf-8")
    for one in (made, replace(made, name="coins--what-if")):
        assert (one.source_text, one.model_digest) == (text, stated)
        assert not one.in_memory


def test_a_file_that_is_saved_while_it_is_loaded_is_recorded_as_it_ran(tmp_path: Path):
    made = fakes.declare(tmp_path, code="\nfrom pathlib import Path\nPath(__file__).write_text('CHANCE =')\n")
    assert made.file.read_text() == "CHANCE ="
    assert made.source_text.endswith("'CHANCE =')\n")
    assert len(made.model_digest) == 64


def test_line_ends_and_a_byte_order_mark_are_no_code(tmp_path: Path):
    made = fakes.declare(tmp_path)
    data = made.file.read_bytes()
    made.file.write_bytes(b"\xef\xbb\xbf" + data.replace(b"\n", b"\r\n"))
    again = load_file(made.file)
    assert (again.source_text, again.model_digest) == (made.source_text, made.model_digest)


def test_a_declaration_without_a_file_has_no_code(tmp_path: Path):
    made = fakes.declare(tmp_path)
    for other in (replace(made, file=None), replace(made, code=None)):
        assert other.in_memory
        with pytest.raises(DeclarationRefused, match="has no source file"):
            _ = other.model_digest


def test_two_loads_of_one_object_keep_their_code_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = fakes.declare(tmp_path)
    monkeypatch.setattr(fakes, "shared", made, raising=False)
    path = tmp_path / "again.py"
    text = "from tests.support.fakes import shared\n"
    path.write_text(text, encoding="utf-8")
    assert load_file(path).source_text == text
    assert made.source_text != text


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"row_key": "id"}, r"row_key as a tuple of names.*write row_key=\('id',\)"),
        ({"row_key": 4.5}, "row_key as a tuple of names"),
        ({"row_key": ("id", 3)}, "row_key as a tuple of names"),
        ({"row_key": ()}, "at least one column"),
        ({"observed": None}, "observed as a tuple of names"),
        ({"carried": {"theta": 1}}, "carried as a tuple of names"),
        ({"order_by": 10}, "order_by as a tuple of names"),
        ({"carry": None}, "carry as a dict from name to name"),
        ({"carry": {"a": 1}}, "carry as a dict from name to name"),
        ({"potentials": ("a",)}, "potentials as a dict from name to name"),
    ],
)
def test_names_that_are_something_else_are_refused(given: dict, expected: str, tmp_path: Path):
    made = fakes.declare(tmp_path)
    with pytest.raises(DeclarationRefused, match=expected):
        replace(made, **given)


def test_lists_of_names_are_taken_too(tmp_path: Path):
    made = replace(fakes.declare(tmp_path), row_key=["id"], carried=None, order_by=["k"])
    assert made.row_key == ["id"]


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path):
    with pytest.raises(DeclarationRefused, match=r"missing\.py cannot be imported.*FileNotFoundError"):
        load_file(tmp_path / "missing.py")
