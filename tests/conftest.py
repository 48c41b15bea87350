"""Fixtures that more than one package of tests uses."""

from __future__ import annotations

import pytest
from hypothesis import settings

from lindley.ledger.chain import Version
from lindley.model.declaration import Declaration
from lindley.verification import gather as gather_module
from lindley.verification.case import GatheredVersion
from tests.support.fakes import MemoryLedger, append, coins, declare

# No deadline, so that a busy machine fails no test.
settings.register_profile("tests", deadline=None)
settings.load_profile("tests")

#: Files of few and long tests: they come first, so that no process is left alone with one of them at the end.
#: Those that start servers stand apart, so that few of them run at a time.
LONG = (
    *("e2e/test_up", "scenarios/test_flu", "test_sbc.py", "e2e/test_worker", "scenarios/test_chains"),
    *("test_chains_with_modes", "e2e/test_browser", "scenarios/", "test_threads", "e2e/", "tests/faults/"),
    *("test_walk", "tests/contract/", "tests/flows/"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the files of long tests first; the order is otherwise kept."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONG) if name in item.nodeid), len(LONG)))


@pytest.fixture(scope="session")
def declaration(tmp_path_factory: pytest.TempPathFactory) -> Declaration:
    """The chain ``coins``; see `tests.support.fakes`."""
    return declare(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def coins_chain(declaration: Declaration) -> MemoryLedger:
    """Three links as versions 1, 2 and 5; version 3 is quarantined, 4 is a create that was sent twice.

    Clone it before changing it.
    """
    ledger = MemoryLedger()
    append(ledger, declaration, coins(declaration, 0))
    append(ledger, declaration, coins(declaration, 10, k=4))
    append(ledger, declaration, coins(declaration, 20, k=9), passed=False)
    twice = ledger.models["coins"].versions[2]
    ledger.register("coins", twice.run_id, twice.tags, twice.description)
    append(ledger, declaration, coins(declaration, 30, k=5))
    return ledger


@pytest.fixture(scope="session")
def read() -> dict[str, GatheredVersion]:
    """Versions that `read_once` has read."""
    return {}


@pytest.fixture
def read_once(monkeypatch: pytest.MonkeyPatch, read: dict[str, GatheredVersion]) -> None:
    """Read a version again only after a change, because reading takes most of the time of these tests."""
    gather_version = gather_module._gather_version

    def once(ledger: MemoryLedger, version: Version) -> GatheredVersion:
        run = ledger.runs.get(version.run_id)
        what = repr((version, run and (run.deleted, run.shown(), sorted(run.files.items()))))
        if what not in read:
            read[what] = gather_version(ledger, version)
        return read[what]

    monkeypatch.setattr(gather_module, "_gather_version", once)


@pytest.fixture(scope="session")
def five_chain(declaration: Declaration) -> MemoryLedger:
    """Five links with the ids 0 to 3, 10 to 13 and so on; k of each batch is its number.

    Clone it before changing it.
    """
    ledger = MemoryLedger()
    for number in range(1, 6):
        append(ledger, declaration, coins(declaration, 10 * (number - 1), k=number))
    return ledger
