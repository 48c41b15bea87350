"""A working folder with the chain ``coins``, a ledger in memory, and one Prefect server per session."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flows import environment
from flows.sequences.steps import Steps
from lindley.batch.reading import read_batch
from lindley.ledger.registration import register_link
from lindley.operations.log import log_plan
from lindley.operations.plots import draw_missing
from lindley.workspace import Workspace
from tests.support import fakes
from tests.support.fits import Fits

# Prefect reads its environment when it is imported, which some test module does first.
os.environ.update(environment.ALWAYS)

MINUTE = 60.0


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    for name in ("MLFLOW_TRACKING_URI", "LINDLEY_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LINDLEY_HOME", str(tmp_path))
    monkeypatch.setenv("LINDLEY_MODELS", str(tmp_path / "models"))
    (tmp_path / "models").mkdir()
    fakes.declare(tmp_path / "models")
    return Workspace.from_environment()


@pytest.fixture
def land(workspace: Workspace) -> Callable[..., Path]:
    """Return a function that puts a file into the landing folder as if it came some minutes ago."""

    def put(name: str, start: int = 1, *, minutes: float = 5, chain: str = "coins", text: str = "") -> Path:
        path = workspace.landing / chain / name
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{i},3,10\n" for i in range(start, start + 4))
        path.write_text(text or f"id,k,n\n{rows}")
        then = time.time() - minutes * MINUTE
        os.utime(path, (then, then))
        return path

    return put


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> Fits:
    made = Fits()
    monkeypatch.setattr("lindley.operations.plan.fit_plan", made)
    return made


@pytest.fixture
def ledger() -> fakes.MemoryLedger:
    return fakes.MemoryLedger()


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[None]:
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=180):
        yield


@pytest.fixture
def said() -> list[str]:
    """Sentences that the steps reported."""
    return []


@pytest.fixture
def published() -> list[tuple]:
    """What steps were asked to show."""
    return []


@pytest.fixture
def drawn() -> list[tuple[str, ...]]:
    """Runs whose plots were drawn, step by step."""
    return []


@pytest.fixture
def steps(ledger, fits, said, published, drawn) -> Steps:
    """The steps of every sequence with the real core, the ledger in memory and no sampler."""
    return Steps(
        open_ledger=lambda _: ledger,
        read=read_batch,
        plan=lambda planner, *given, **options: planner(*given, **options),
        fit=fits,
        log=log_plan,
        register=register_link,
        draw=lambda at, runs: drawn.append(draw_missing(at, runs)),
        announce=lambda *_: None,
        publish=lambda *link: published.append(link),
        notify=said.append,
    )
