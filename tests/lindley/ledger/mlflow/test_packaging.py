"""A belief is packed without looking at what else is installed."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow.utils import environment

from lindley.ledger.mlflow import packaging
from tests.support import fakes

NAME = "warn_dependency_requirement_mismatches"


def packed(folder: Path) -> dict:
    declaration = fakes.declare(folder)
    (folder / "draws.nc").write_bytes(b"draws")
    packaging.save_belief(folder, declaration, folder / "draws.nc", pd.DataFrame({"id": [1], "k": [0]}))
    return yaml.safe_load((folder / "belief" / "MLmodel").read_text())


def test_pins_are_not_held_against_every_installed_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(requirements: list[str]) -> None:
        raise AssertionError(requirements)

    monkeypatch.setattr(environment, NAME, check)
    assert "python_function" in packed(tmp_path)["flavors"]
    # Whoever saves a model of their own in this process gets the check as before.
    assert getattr(environment, NAME) is check


def test_a_version_without_the_check_is_packed_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Other:
        """A module without it."""

    monkeypatch.setattr(packaging, "environment", Other())
    assert "python_function" in packed(tmp_path)["flavors"]
