"""One ledger per backend for the contract suite."""

from __future__ import annotations

import itertools
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.protocol import Ledger, Run
from tests.contract import processes
from tests.fakes import MemoryLedger

_numbers = itertools.count(1)
START_SECONDS = 180


@dataclass
class Backend:
    """A ledger, and how another view of it and a killed writer come about."""

    name: str
    ledger: Ledger
    again: Callable[[], Ledger]
    killed_run: Callable[[str], str]


@pytest.fixture(scope="session", params=["memory", "sqlite", pytest.param("server", marks=pytest.mark.e2e)])
def backend(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Backend:
    if request.param == "memory":
        memory = MemoryLedger()
        return Backend("memory", memory, lambda: memory, lambda chain: _killed_in_memory(memory, chain))
    root = tmp_path_factory.mktemp("contract ü")  # addresses of such folders are percent-encoded
    uri = f"sqlite:///{root / 'mlflow.db'}"
    if request.param == "server":
        uri = request.getfixturevalue("mlflow_server")
    return Backend(
        request.param,
        MlflowLedger(uri, root),
        lambda: MlflowLedger(uri, root),
        lambda chain: processes.killed_run(uri, root, chain),
    )


@pytest.fixture
def ledger(backend: Backend) -> Ledger:
    return backend.ledger


@pytest.fixture
def chain() -> str:
    """A chain name that no other test has."""
    return f"chain-{next(_numbers)}"


def _killed_in_memory(ledger: MemoryLedger, chain: str) -> str:
    run_id = ledger.open_run(chain, Run(name="killed"))
    ledger.kill(run_id)
    return run_id


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a real tracking server on loopback; yield its address; stop it with all its processes."""
    folder = tmp_path_factory.mktemp("server")
    port = _free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    environment = os.environ | {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = folder / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=folder)
    try:
        _wait(f"http://127.0.0.1:{port}/health", server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"the server did not start:\n{log.read_text(errors='replace')[-3000:]}")
