"""A panel of seven stores in three links, really fitted once for all tests here."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lindley.batch.batch import batch_from_frame
from lindley.model.declaration import Declaration
from tests.support import panels
from tests.support.fakes import MemoryLedger


@pytest.fixture(scope="session")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    return panels.declare(Path(tmp_path_factory.mktemp("shops")))


@pytest.fixture(scope="session")
def panel(shops: Declaration) -> MemoryLedger:
    """Five stores; then two of them, a new one and one whose fit fails; a link that failed; that store."""
    ledger = MemoryLedger()
    panels.append(ledger, shops, panels.batch(shops, {f"s{i}": i for i in range(5)}, 0))
    failing = {"s1": 2, "s2": 9, "new": 5, "bad": panels.BROKEN}
    panels.append(ledger, shops, panels.batch(shops, failing, 10), shards=2)
    panels.append(ledger, shops, panels.batch(shops, {"s1": 2, "s3": panels.BROKEN}, 20))
    # The rows of the store that failed come again, with other numbers.
    again = pd.concat([panels.rows({"s1": 2}, 20), panels.rows({"bad": 5}, 10)])
    panels.append(ledger, shops, batch_from_frame(again, shops, "again.csv"))
    return ledger
