"""An embedded ledger on MLflow, made once and copied for each test."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lindley.ledger.mlflow.store import MlflowLedger
from lindley.model.declaration import Declaration
from tests.support.fakes import append, coins


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, declaration: Declaration) -> Path:
    """A folder with an embedded ledger: a link, a quarantined version, a link. Copy it."""
    root = tmp_path_factory.mktemp("template")
    ledger = MlflowLedger(f"sqlite:///{root / 'mlflow.db'}", root)
    append(ledger, declaration, coins(declaration, 0))
    append(ledger, declaration, coins(declaration, 10), passed=False)
    append(ledger, declaration, coins(declaration, 20))
    return root


@pytest.fixture
def ledger(template: Path, tmp_path: Path) -> MlflowLedger:
    """The template's ledger, moved to another folder."""
    root = tmp_path / "moved here"
    shutil.copytree(template, root)
    return MlflowLedger(f"sqlite:///{root / 'mlflow.db'}", root)
