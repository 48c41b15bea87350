"""`lindley serve` starts a server on checked files only, on this machine only."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import serve as command
from flows.cli.__main__ import app
from lindley.model.declaration import Declaration
from tests.support.fakes import MemoryLedger, append, coins


@pytest.fixture
def ledger(declaration: Declaration, monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    made = MemoryLedger()
    append(made, declaration, coins(declaration, 0))
    monkeypatch.setattr(command, "open_here", lambda: made)
    return made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands that would have been run, with the files that they would have found."""
    seen: list[list[str]] = []

    def run(arguments: list[str], **_: Any) -> subprocess.CompletedProcess[bytes]:
        folder = Path(arguments[arguments.index("-m", 3) + 1])
        seen.append([*arguments, *sorted(path.name for path in folder.iterdir())])
        return subprocess.CompletedProcess(arguments, 0)

    monkeypatch.setattr(subprocess, "run", run)
    return seen


def test_the_server_gets_a_checked_copy(ledger: MemoryLedger, started: list[list[str]]) -> None:
    ledger.run_of("coins", 1).files["belief/extra.py"] = b""
    result = CliRunner().invoke(app, ["serve", "coins", "--port", "5099", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["address"] == "http://127.0.0.1:5099/invocations"
    assert started[0][-2:] == ["MLmodel", "draws.nc"]
    assert started[0][started[0].index("--host") + 1] == "127.0.0.1"


def test_a_changed_file_is_not_served(ledger: MemoryLedger, started: list[list[str]]) -> None:
    ledger.flip("coins", 1, "belief/MLmodel")
    result = CliRunner().invoke(app, ["serve", "coins"])
    assert result.exit_code != 0
    assert "MLmodel" in " ".join(result.output.split())
    assert not started
