"""The second attack round, as far as no server is needed: each try has the outcome that the table states."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lindley.model.declaration import Declaration
from tests.faults.attacks.documents import DOCUMENTS, Documents, documents
from tests.faults.attacks.files import LANDING, landing
from tests.faults.attacks.rounds import SURFACES
from tests.faults.attacks.runs import WORKER, Runs
from tests.faults.attacks.stored import STORED, Stored, stored
from tests.faults.attacks.table import Try, marked, threat_model


def holds(one: Try, ground: object) -> None:
    """Make a try and compare its outcome with the stated one."""
    outcome = one.measured(ground)
    assert one.as_expected(outcome), f"{one.tried}: {outcome}, not {one.expected}"
    assert one.expected.startswith("threat model") == bool(one.reference)
    assert one.reference in threat_model()


@pytest.fixture(scope="module")
def signed(
    declaration: Declaration, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Path], Documents]]:
    with documents(declaration, tmp_path_factory.mktemp("documents")) as made:
        yield made


@pytest.mark.usefixtures("read_once")
@pytest.mark.parametrize("one", marked(DOCUMENTS))
def test_records_and_statements(one: Try, signed: Callable[[Path], Documents], tmp_path: Path) -> None:
    holds(one, signed(tmp_path))


@pytest.mark.parametrize("one", marked(LANDING))
def test_the_landing_folder(one: Try, tmp_path: Path) -> None:
    holds(one, landing(tmp_path))


@pytest.fixture(scope="module")
def held(declaration: Declaration, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    with stored(declaration, tmp_path_factory.mktemp("stored")) as made:
        yield made


@pytest.mark.parametrize("one", marked(STORED))
def test_the_registry_and_the_artifact_store(one: Try, held: Stored) -> None:
    held.restore()
    holds(one, held)


@pytest.mark.parametrize("one", marked(WORKER))
def test_flow_runs_of_the_worker(one: Try, tmp_path: Path) -> None:
    holds(one, Runs(tmp_path))


def test_there_are_no_two_tries_of_one_name() -> None:
    names = [one.id for surface in SURFACES for one in surface.tries]
    assert len(names) == len(set(names)) >= 60
