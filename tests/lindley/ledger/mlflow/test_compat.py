"""What Lindley uses of MLflow's internals: each test fails by name when an upgrade removes it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from mlflow.utils import environment

from lindley.ledger.mlflow import _compat, packaging
from tests.support import fakes

NAME = "warn_dependency_requirement_mismatches"


def packed(folder: Path) -> dict:
    declaration = fakes.declare(folder)
    (folder / "draws.nc").write_bytes(b"draws")
    (folder / "model.py").write_text(declaration.source_text, encoding="utf-8")
    packaging.save_belief(folder, declaration, folder / "draws.nc")
    return yaml.safe_load((folder / "belief" / "MLmodel").read_text())


def test_mlflow_still_has_the_check_of_requirements() -> None:
    """If this fails, see whether saving a model still lists every distribution; drop `_compat` if not."""
    assert callable(getattr(environment, NAME, None))


def test_pins_are_not_compared_with_every_installed_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(requirements: list[str]) -> None:
        raise AssertionError(requirements)

    monkeypatch.setattr(environment, NAME, check)
    assert "python_function" in packed(tmp_path)["flavors"]
    # Other models that this process saves are checked as before.
    assert getattr(environment, NAME) is check


def test_a_version_without_the_check_is_packed_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        """A module without it."""

    monkeypatch.setattr(_compat, "environment", Other())
    assert "python_function" in packed(tmp_path)["flavors"]
