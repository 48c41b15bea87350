"""Fixtures that more than one package of tests uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from lindley.declaration import Declaration
from tests.fakes import MemoryLedger, append, coins, declare


@pytest.fixture(scope="session")
def declaration(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    """The chain ``coins``; see `tests.fakes`."""
    return declare(tmp_path_factory.mktemp("models"))
