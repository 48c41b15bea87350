"""Logs by machine: one object a line, whatever is in a message, and no secret."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.cli.output import notify
from flows.monitoring import json_logs
from flows.monitoring.json_logs import JsonFormatter, LogFormatRefused, log_line

PREFECT = """
import os
from pathlib import Path
from flows import environment
from lindley.workspace import Workspace
environment.prepare(Workspace.from_environment())
import prefect, logging
from prefect.logging import get_logger
from prefect.logging.configuration import setup_logging
setup_logging()
get_logger("lindley").warning("a %s of\\nnews at http://ana:hunter22@host/", "line " * 60)
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("lindley.files").exception("[red]it[/red] failed \\x1b[31m")
"""


@pytest.fixture
def as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINDLEY_LOG", "json")


def line(message: str, *arguments: object, **attributes: str) -> dict[str, str]:
    record = logging.LogRecord("lindley.test", logging.WARNING, "", 0, message, arguments, None)
    record.__dict__.update(attributes)
    text = JsonFormatter().format(record)
    assert text.isascii()
    assert text.isprintable()
    found = json.loads(text)
    assert isinstance(found, dict)
    return found


def test_a_line_has_what_and_when_and_of_which_run() -> None:
    found = line("%d files\nof \x1b[31mü", 3, flow_run_name="sweep", flow_run_id="1-2", task_run_name="")
    assert found.pop("time").endswith("+00:00")
    assert found == {
        "level": "warning",
        "logger": "lindley.test",
        "message": "3 files\nof \x1b[31mü",
        "flow_run_name": "sweep",
        "flow_run_id": "1-2",
    }


def test_secrets_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_PASSWORD", "correct horse")
    assert line("a correct horse")["message"] == "a ***"
    assert "hunter22" not in line("http://ana:hunter22@host/")["message"]


@pytest.mark.usefixtures("as_json")
def test_sentences_of_commands_are_lines_too(capsys: pytest.CaptureFixture[str]) -> None:
    notify("Waiting for [bold]prefect[/bold] " + "x" * 300)
    found = json.loads(capsys.readouterr().err)
    assert found["message"].startswith("Waiting for [bold]prefect[/bold] xxx")
    assert json.loads(log_line("lindley.worker", "a"))["logger"] == "lindley.worker"


def test_text_is_the_default_and_another_format_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINDLEY_LOG", raising=False)
    assert log_line("lindley", "a") == "a"
    monkeypatch.setenv("LINDLEY_LOG", "xml")
    with pytest.raises(LogFormatRefused):
        json_logs.json_wanted()


def test_prefect_logs_in_the_same_form(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = kept | {"LINDLEY_HOME": str(tmp_path), "LINDLEY_LOG": "json"}
    root = str(Path(__file__).parents[3])
    done = subprocess.run(
        [sys.executable, "-c", PREFECT],
        env=environment | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = (json.loads(text) for text in done.stderr.splitlines())
    assert (first["level"], first["logger"]) == ("warning", "prefect.lindley")
    assert "hunter22" not in done.stderr
    assert second["message"] == "[red]it[/red] failed \x1b[31m"
    assert "ZeroDivisionError" in second["error"]
