"""The table of faults (README.md) has every fault, and names tests and functions that exist."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
README = Path(__file__).with_name("README.md")
#: Of the report of the attack day: numbered faults, and what was seen beside them.
NUMBERED, OTHERS = 17, 14
_NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")


def sections() -> dict[str, str]:
    """Return the text below each third-level heading."""
    found = re.split(r"^### ", README.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    parts = [part.partition("\n")[::2] for part in found]
    return {heading: text.partition("\n## ")[0] for heading, text in parts}


@cache
def functions(path: Path) -> frozenset[str]:
    """Return the names of the functions and methods of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def test_every_fault_has_its_entry() -> None:
    found = list(sections())
    numbers = [int(heading.partition(".")[0]) for heading in found if heading[0].isdigit()]
    assert numbers == list(range(1, NUMBERED + 1))
    assert len(found) - NUMBERED >= OTHERS


@pytest.mark.parametrize("heading", sections())
def test_an_entry_states_what_was_what_is_and_what_pins_it(heading: str) -> None:
    text = sections()[heading]
    assert re.findall(r"^- \*\*(\w+)\.\*\*", text, re.MULTILINE) == ["Before", "Now", "Tests"]
    assert _NAMED.search(text.partition("**Tests.**")[2])


def test_all_that_is_named_exists() -> None:
    named = _NAMED.findall(README.read_text(encoding="utf-8"))
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).is_file() or name not in functions(ROOT / path)
    ]
    assert len(named) > 100
    assert not missing


def test_what_is_named_on_request_is_run_by_make_test_faults() -> None:
    recipe = (
        (ROOT / "Makefile").read_text(encoding="utf-8").partition("\ntest-faults:")[2].partition("\n\n")[0]
    )
    assert "tests.faults.run" in recipe
    assert re.search(r"pytest -m faults .*tests/faults", recipe)
    days = README.read_text(encoding="utf-8").partition("| what happens |")[2]
    for path in {path for path, _ in _NAMED.findall(days)} - {
        "tests/faults/loads.py",
        "tests/faults/test_faults.py",
    }:
        assert "mark.faults" in (ROOT / path).read_text(encoding="utf-8"), path


def test_deployments_are_tagged_with_their_kind() -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text(encoding="utf-8"))["deployments"]
    assert deployments
    for deployment in deployments:
        assert deployment["tags"][0] == "lindley"
        assert [tag for tag in deployment["tags"] if tag.startswith("kind:")], deployment["name"]
