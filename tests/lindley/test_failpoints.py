"""Where a process can be made to die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lindley
from lindley import failpoints
from lindley.errors import NameRefused

ROOT = Path(lindley.__file__).parents[1]


def run(code: str, armed: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {failpoints.VARIABLE: armed, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )


def test_the_environment_names_the_place_and_how_often() -> None:
    code = "from lindley.failpoints import reach\nfor i in range(3): reach('closed'); print(i, flush=True)"
    assert run(code, "").stdout == "0\n1\n2\n"
    assert run(code, "versioned").returncode == 0
    killed = run(code, "closed:2")
    assert (killed.returncode, killed.stdout) == (-signal.SIGKILL, "0\n")


def test_a_name_that_is_none_stops_the_process_when_it_starts() -> None:
    found = run("import lindley.failpoints", "clsoed")
    assert found.returncode == 1
    assert "LINDLEY_FAILPOINT names no fail-point" in found.stderr


@pytest.mark.parametrize(
    "text", ["nowhere", "closed:", "closed:0", "closed:x", "closed:-1", ":1", "closed:²"]
)
def test_bad_names_are_refused(text: str) -> None:
    with pytest.raises(NameRefused, match="no fail-point"):
        failpoints.arm(text)


def test_every_place_in_the_code_is_listed_once() -> None:
    code = "".join(p.read_text() for folder in ("lindley", "flows") for p in (ROOT / folder).rglob("*.py"))
    names = failpoints.NAMES | failpoints.OBJECT_NAMES
    for name in names:
        assert code.count(f'failpoints.reach("{name}")') == 1, name
    assert code.count("failpoints.reach(") == len(names)
