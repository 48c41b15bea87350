"""A machine per module: its own folder, servers, worker and watcher."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.machine import ROOT, Machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    root = tmp_path_factory.mktemp("machine")
    (root / "models").mkdir()
    shutil.copy(ROOT / "models" / "beta_binomial.py", root / "models")
    made = Machine(root)
    yield made
    if made.process is not None:
        made.down()
