"""The last resort: one sentence and a log, without secrets, that only the user can read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer

from flows.cli.output import FAILURE, command
from flows.unexpected import Unexpected, unexpected


def raised(text: str) -> Exception:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LINDLEY_HOME", str(tmp_path))
    return tmp_path


def test_the_log_has_the_traceback_and_no_secret(home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "open sesame")
    error = unexpected(raised("open sesame at http://ada:word@host/x"), "lindley update")
    log = Path(re.search(r"in (\S+error-\S+\.log)", error.todo)[1])
    assert log.parent == home / ".lindley" / "logs"
    assert log.stat().st_mode & 0o077 == 0
    text = log.read_text()
    assert "Traceback" in text
    assert "raise ValueError(text)" in text
    for hidden in ("open sesame", "word@"):
        assert hidden not in text + str(error)
    assert isinstance(error, Unexpected)
    assert error.happened == "An unexpected error ended lindley update"


def test_a_folder_that_cannot_be_written_does_not_hide_the_error(home: Path):
    (home / ".lindley").write_text("a file where the folder would be")
    error = unexpected(raised("cause"), "lindley update")
    log = Path(re.search(r"in (\S+error-\S+\.log)", error.todo)[1])
    assert home not in log.parents
    log.unlink()


def test_a_command_ends_with_one_sentence_whatever_is_raised(capsys: pytest.CaptureFixture[str]):
    @command
    def broken(as_json: bool = False) -> None:
        raise KeyError("not foreseen")

    with pytest.raises(typer.Exit) as caught:
        broken(as_json=True)
    assert caught.value.exit_code == FAILURE
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert json.loads(shown.out)["error"]["error"] == "Unexpected"


@pytest.mark.parametrize("error", [typer.Exit(3), typer.BadParameter("no"), typer.Abort()])
def test_errors_of_the_command_line_pass(error: Exception):
    @command
    def ends(as_json: bool = False) -> None:
        raise error

    with pytest.raises(type(error)):
        ends(as_json=False)
