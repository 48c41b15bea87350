"""Text from outside cannot control a terminal, and one bad chain hides no other."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from flows import environment
from flows.cli import output
from flows.cli.__main__ import app
from flows.cli.output import FAILURE, Terminal, print_json, table
from lindley.errors import LedgerCorrupt
from lindley.ledger import backend
from lindley.ledger.history import history
from lindley.names import divided, for_terminal
from tests.support import fakes

#: Clear the screen, set the title, colour; a C1 control, a bidirectional override, a lone surrogate.
HOSTILE = "\x1b[2J\x1b]0;title\x07\x1b[31m[bold]ok\x9b31m\u202egpj.exe\udcff\x7f\r\x08.csv"


@pytest.fixture(autouse=True)
def in_memory(monkeypatch, workspace, ledger, fits) -> None:
    monkeypatch.setattr(environment, "prepare", lambda workspace, **_: workspace)
    monkeypatch.setattr("lindley.ledger.backend.open_ledger", lambda *_, **__: ledger)
    monkeypatch.setattr("lindley.ledger.backend.has_ledger", lambda _: True)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def obeyed(text: str) -> list[str]:
    return [c for c in text if not c.isprintable() and c != "\n"]


@pytest.fixture
def link(workspace, ledger) -> None:
    """A link of coins whose tags were changed by somebody."""
    declaration = fakes.declare(workspace.models)
    fakes.append(ledger, declaration, fakes.coins(declaration, 1))


def test_what_is_shown_stays_readable():
    assert (
        for_terminal("Größe 5 µm\n\t中文 🎲 1\u202f000\u00a0€") == "Größe 5 µm\n\t中文 🎲 1\u202f000\u00a0€"
    )
    assert for_terminal(HOSTILE).isprintable()
    assert for_terminal("a\x1bb\x9b") == r"a\x1bb\x9b"


def test_nothing_that_is_printed_reaches_the_terminal_raw():
    shown = Terminal(file=io.StringIO(), force_terminal=False, width=200)
    shown.print(HOSTILE, markup=False)
    shown.print(table([{"name": HOSTILE, "b": 1}]))
    assert isinstance(shown.file, io.StringIO)
    text = shown.file.getvalue()
    assert obeyed(text) == []
    assert r"\x1b[2J" in text
    text.encode()


def test_colours_of_our_own_stay():
    shown = Terminal(file=io.StringIO(), force_terminal=True, color_system="standard")
    shown.print("[red]bad[/red]")
    assert isinstance(shown.file, io.StringIO)
    assert "\x1b[31mbad" in shown.file.getvalue()


def test_json_is_escaped_as_json(capsys):
    print_json({"file": HOSTILE, "plain": "Größe"})
    text = capsys.readouterr().out
    assert obeyed(text) == []
    assert json.loads(text) == {"file": HOSTILE, "plain": "Größe"}
    assert "Größe" in text
    text.encode()


@pytest.mark.usefixtures("link")
@pytest.mark.parametrize(
    "command", [["log", "coins", "--all"], ["chains"], ["show", "coins"], ["profile", "coins"]]
)
def test_no_command_hands_tags_to_the_terminal(ledger, command):
    tags = ledger.models["coins"].versions[1].tags
    assert "lindley.origin" in tags
    tags["lindley.origin"] = HOSTILE
    result = run(*command)
    assert obeyed(result.output) == []
    assert obeyed(run(*command, "--json").output) == []


def test_every_command_prints_through_one_console():
    """Another `Console`, or a plain `print`, would hand text from outside to the terminal."""
    here = Path(output.__file__).parent
    for path in here.glob("*.py"):
        text = path.read_text()
        if path.name != "output.py":
            assert "Console(" not in text, path
            assert "typer.echo" not in text, path
    lines = {path.name: path.read_text().splitlines() for path in here.glob("*.py")}
    plain = [name for name, text in lines.items() for line in text if line.strip().startswith("print(")]
    # A version, JSON, metrics of chains whose names are valid, a head's statement and that of known findings.
    assert sorted(plain) == ["__main__.py", "output.py", "status.py", "verify.py", "verify.py"]


# -- one bad chain ------------------------------------------------------------------------------------

HAS_LEDGER = backend.has_ledger
NAMES = ["bet\u0430_binomial", "..%2f..%2fetc", "Coins", "a\x1b[2J", "x" * 64, "", "coins/../dice", "1coins"]


def test_names_that_no_chain_can_have_are_told_apart_and_escaped():
    good, others = divided(["coins", *NAMES])
    assert good == ["coins"]
    assert len(others) == len(NAMES)
    assert r"bet\u0430_binomial" in others
    assert all(name.isascii() and name.isprintable() for name in others)


@pytest.mark.usefixtures("link")
def test_a_strange_name_stops_neither_verify_nor_chains(ledger, monkeypatch):
    monkeypatch.setattr(ledger, "chains", lambda: sorted(["coins", *NAMES]))
    for command in ("chains", "verify"):
        result = run(command)
        assert result.exit_code == 0, result.output
        assert "coins" in result.stdout
        assert r"bet\u0430_binomial" in result.output
        assert obeyed(result.output) == []
    found = json.loads(run("verify", "--json").stdout)
    assert [item["chain"] for item in found["chains"]] == ["coins"]
    assert found["ok"]
    assert len(found["not_chains"]) == len(NAMES)


@pytest.mark.usefixtures("link")
@pytest.mark.parametrize(
    "error", [LedgerCorrupt("The genesis is gone"), RuntimeError("broken"), KeyError("x")]
)
def test_a_chain_that_cannot_be_read_hides_no_other(ledger, monkeypatch, error):
    genesis = ledger.genesis

    def read(chain: str) -> bytes | None:
        if chain == "bad":
            raise error
        found: bytes | None = genesis(chain)
        return found

    monkeypatch.setattr(ledger, "genesis", read)
    monkeypatch.setattr(ledger, "chains", lambda: ["bad", "coins"])
    result = run("chains")
    assert result.exit_code == 0
    assert "bad cannot be read" in result.output
    assert history(ledger, "coins")[0].record_digest[:12] in result.stdout
    result = run("verify")
    assert result.exit_code == FAILURE
    assert "bad: cannot be verified" in result.stdout
    assert "coins: verified" in result.stdout
    found = json.loads(run("verify", "--json").stdout)
    assert [(item["chain"], item["ok"]) for item in found["chains"]] == [("bad", False), ("coins", True)]
    assert not found["ok"]


def test_chains_in_an_empty_folder_makes_no_database(tmp_path, monkeypatch):
    monkeypatch.setattr("lindley.ledger.backend.open_ledger", lambda *_, **__: pytest.fail("it was opened"))
    monkeypatch.setattr("lindley.ledger.backend.has_ledger", HAS_LEDGER)
    monkeypatch.setenv("LINDLEY_MODELS", str(tmp_path / "none"))
    result = run("chains")
    assert result.exit_code == 0
    assert "There are no chains" in result.stdout
    assert not (tmp_path / "mlflow.db").exists()
