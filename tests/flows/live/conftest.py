"""A chain of one link, as a server of predictions finds it."""

from __future__ import annotations

import pytest

from lindley.model.declaration import Declaration
from tests.support import fakes


@pytest.fixture(scope="module")
def coins(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    return fakes.declare(tmp_path_factory.mktemp("models"))


@pytest.fixture
def ledger(coins: Declaration) -> fakes.MemoryLedger:
    made = fakes.MemoryLedger()
    fakes.append(made, coins, fakes.coins(coins, 0))
    return made
