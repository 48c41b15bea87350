"""`lindley up` on a ledger that was copied or moved to another folder."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import running
from flows.server.up import Options, Stack
from lindley.errors import LedgerMoved
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.record import Artifact
from lindley.model.declaration import Declaration
from lindley.verification.gather import verify_chain
from lindley.workspace import Workspace
from tests.support import fakes

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NAME = "coins"


@pytest.fixture
def declaration(tmp_path: Path) -> Declaration:
    (tmp_path / "models").mkdir()
    return fakes.declare(tmp_path / "models", NAME)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Path], MlflowLedger]]:
    """Return a function that has the MLflow server of `lindley up` serve a folder."""
    for name in ("MLFLOW_TRACKING_URI", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    made: list[Stack] = []

    def start(root: Path) -> MlflowLedger:
        options = Options(mlflow_port=0, prefect_port=0, pages_port=0, servers_only=True)
        stack = Stack(Workspace.from_environment(root), options, print, threading.Event())
        made.append(stack)
        stack._start_mlflow()
        stack._await("mlflow", lambda: running.mlflow_answers(stack.servers.mlflow), False)
        return MlflowLedger(stack.servers.mlflow, root)

    yield start
    for stack in made:
        stack.stop()


def test_a_copy_is_not_served_and_a_moved_ledger_is_through_a_link(
    tmp_path: Path, declaration: Declaration, serve: Callable[[Path], MlflowLedger]
) -> None:
    original, copy = tmp_path / "prod", tmp_path / "staging"
    ledger = MlflowLedger(f"sqlite:///{original / 'mlflow.db'}", original)
    fakes.append(ledger, declaration, fakes.coins(declaration, 0))
    shutil.copytree(original, copy)
    held = {path: path.stat().st_mtime_ns for path in original.rglob("*")}
    with pytest.raises(LedgerMoved, match="moved or copied here"):
        serve(copy)
    # Without a server, Lindley reads and writes the files of the copy.
    mine = MlflowLedger(f"sqlite:///{copy / 'mlflow.db'}", copy)
    assert fakes.append(mine, declaration, fakes.coins(declaration, 10)).link == 2
    assert {path: path.stat().st_mtime_ns for path in original.rglob("*")} == held

    shutil.rmtree(original)
    original.symlink_to(copy)
    served = serve(copy)
    found = fakes.append(served, declaration, fakes.coins(declaration, 20))
    assert found.link == 3
    assert len(list(copy.rglob(f"{found.run_id}/artifacts/{Artifact.RECORD}"))) == 1
    report = verify_chain(served, NAME)
    assert (report.findings, len(report.links)) == ((), 3)
