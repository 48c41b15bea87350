"""`lindley serve` starts with checked links, on this machine, and says where they answer."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import serve as command
from flows.cli.__main__ import app
from flows.live import listening
from lindley.model.declaration import Declaration
from tests.support.fakes import MemoryLedger, append, coins


@pytest.fixture
def ledger(declaration: Declaration, monkeypatch: pytest.MonkeyPatch) -> MemoryLedger:
    made = MemoryLedger()
    for start in (0, 10):
        append(made, declaration, coins(declaration, start))
    monkeypatch.setattr(command, "open_here", lambda: made)
    return made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses on which a server would have answered."""
    seen: list[str] = []

    def run(_: Any, bound: socket.socket, **__: Any) -> None:
        seen.append(bound.getsockname()[0])
        bound.close()

    monkeypatch.setattr(listening, "run", run)
    return seen


@pytest.mark.usefixtures("ledger")
def test_the_command_says_which_link_answers_where(started: list[str]) -> None:
    result = CliRunner().invoke(app, ["serve", "coins", "--port", "0", "--json"])
    assert result.exit_code == 0, result.output
    said = json.loads(result.output)
    assert said["address"].startswith("http://127.0.0.1:")
    assert [(each["chain"], each["link"]) for each in said["chains"]] == [("coins", 2)]
    assert started == ["127.0.0.1"]
    said = CliRunner().invoke(app, ["serve", "coins@1", "--port", "0"]).output
    assert "coins link 1 answers at http://127.0.0.1:" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["coins", "--host", "0.0.0.0"], "LINDLEY_SERVE_TOKEN"),
        (["coins", "coins@1"], "named twice"),
        (["dice"], "There is no chain 'dice'"),
        (["coins@7"], "7"),
    ],
)
@pytest.mark.usefixtures("ledger")
def test_what_cannot_be_served_is_refused(arguments: list[str], words: str, started: list[str]) -> None:
    result = CliRunner().invoke(app, ["serve", *arguments, "--port", "0"])
    assert result.exit_code == 2
    assert words in " ".join(result.output.split())
    assert not started


@pytest.mark.parametrize("path", ["belief/draws.nc", "model.py"])
def test_a_changed_file_is_not_served(path: str, ledger: MemoryLedger, started: list[str]) -> None:
    ledger.flip("coins", 2, path)
    result = CliRunner().invoke(app, ["serve", "coins", "--port", "0"])
    assert result.exit_code == 1
    assert path in " ".join(result.output.split())
    assert not started
