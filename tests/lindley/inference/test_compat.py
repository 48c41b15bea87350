"""What the sampler imports is imported when it is used, and by everybody else as always."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from lindley.inference._compat import _later


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A heavy module, and one that imports it."""
    (tmp_path / "heavy_thing.py").write_text("weight = 7\n")
    (tmp_path / "uses_heavy.py").write_text(
        "import heavy_thing\n\n\ndef f():\n    return heavy_thing.weight\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("heavy_thing", "uses_heavy"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.usefixtures("packages")
def test_a_module_is_imported_when_it_is_used() -> None:
    with _later("heavy_thing"):
        user = importlib.import_module("uses_heavy")
    assert "heavy_thing" not in sys.modules
    assert user.f() == 7
    assert sys.modules["heavy_thing"].__file__


@pytest.mark.usefixtures("packages")
def test_others_import_the_module_itself() -> None:
    with _later("heavy_thing"):
        importlib.import_module("uses_heavy")
    assert importlib.import_module("heavy_thing").__file__


@pytest.mark.usefixtures("packages")
def test_a_module_that_is_there_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    held = importlib.import_module("heavy_thing")
    with _later("heavy_thing"):
        user = importlib.import_module("uses_heavy")
    assert user.heavy_thing is held is sys.modules["heavy_thing"]


@pytest.mark.usefixtures("packages")
def test_an_import_that_fails_leaves_no_stand_in() -> None:
    with pytest.raises(ZeroDivisionError), _later("heavy_thing"):
        raise ZeroDivisionError
    assert "heavy_thing" not in sys.modules
