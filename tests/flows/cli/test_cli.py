"""The command line: output, JSON, errors, exit codes; with a ledger in memory and no sampler."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest
import typer

from flows.cli import output
from flows.cli.__main__ import app
from flows.cli.output import FAILURE, QUARANTINED, USER_ERROR
from flows.server.up import ProcessEnded, StartFailed
from flows.sweep import Swept
from lindley.errors import BatchUnreadable, FitFailed, LedgerCorrupt, LedgerUnavailable, LostRace
from tests.flows.cli.commands import document, run
from tests.support import fakes

pytestmark = pytest.mark.usefixtures("in_memory")


# -- update -----------------------------------------------------------------------------------------


def test_update_directly(land, ledger):
    result = run("update", "coins", land("a.csv"), "--direct")
    assert result.exit_code == 0
    assert "accepted a.csv is link 1 of coins (version 1)" in result.stdout
    assert not ledger.run_of("coins", 1).tags.get("lindley.flow_run")


def test_update_as_json(land, ledger):
    made = document(run("update", "coins", land("a.csv"), "--direct", "--json"))
    assert (made["status"], made["link"], made["version"]) == ("accepted", 1, 1)
    assert made["record_digest"] == ledger.versions("coins")[0].record


def test_the_same_batch_again_says_so_and_exits_zero(land):
    run("update", "coins", land("a.csv"), "--direct")
    again = run("update", "coins", land("b.csv"), "--direct")
    assert again.exit_code == 0
    assert "unchanged" in again.stdout
    assert "already in coins as link 1" in again.stdout


def test_earlier_files_come_first_without_prefect_too(land, ledger):
    land("a.csv", minutes=9)
    result = run("update", "coins", land("b.csv", 5), "--direct")
    assert "a.csv arrived before and comes first" in result.stderr
    assert [version.origin for version in ledger.versions("coins")] == ["a.csv", "b.csv"]


def test_an_earlier_file_that_fails_holds_up_the_chain(land, fits):
    land("a.csv", minutes=9)
    fits.error = LedgerUnavailable("It is down")
    assert run("update", "coins", land("b.csv", 5), "--direct").exit_code == FAILURE
    assert len(fits.plans) == 1


def test_a_quarantined_fit_has_its_own_exit_code(land, fits):
    fits.passed = False
    result = run("update", "coins", land("a.csv"), "--direct")
    assert result.exit_code == QUARANTINED
    assert "quarantined" in result.stdout
    assert "R-hat 1.3100" in result.stdout


def test_an_error_is_one_paragraph_on_stderr(land):
    result = run("update", "coins", land("a.csv", text="id,k,n\n1,3,ten\n"), "--direct")
    assert result.exit_code == USER_ERROR
    assert result.stdout == ""
    assert "'ten'" in result.stderr
    assert "To do:" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_error_as_json(land):
    result = run("update", "dice", land("a.csv"), "--json")
    assert result.exit_code == USER_ERROR
    assert document(result)["error"]["error"] == "UnknownChain"


@pytest.mark.parametrize(("name", "said"), [("no.csv", "There is no file"), (".", "has no Parquet file")])
def test_a_path_that_is_no_file_is_refused_at_once(tmp_path, name, said):
    result = run("update", "coins", tmp_path / name)
    assert result.exit_code == USER_ERROR
    assert said in result.stderr


def test_markup_in_names_is_only_text(tmp_path, land):
    path = land("a.csv").rename(tmp_path / "[bold]a[bold].csv")
    result = run("update", "coins", path, "--direct")
    assert "[bold]a[bold].csv is link 1" in result.stdout
    bad = tmp_path / "[red]b[bold].csv"
    bad.write_text("id,k,n\n1,3,ten\n")
    assert "[red]b[bold].csv" in run("update", "coins", bad, "--direct").stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BatchUnreadable("x"), USER_ERROR),
        (StartFailed("x"), USER_ERROR),
        (ProcessEnded("x"), FAILURE),
        (FitFailed("x"), FAILURE),
        (LedgerCorrupt("x"), FAILURE),
        (LedgerUnavailable("x"), FAILURE),
        (LostRace("x"), FAILURE),
    ],
)
def test_exit_codes(error, code):
    assert output.exit_code(error) == code


# -- sweep ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "failed", "code"),
    [
        ([], {}, 0),
        (["accepted", "unchanged"], {}, 0),
        (["accepted", "quarantined"], {}, QUARANTINED),
        (["quarantined", "rejected"], {}, FAILURE),
        (["accepted"], {"dice": LedgerUnavailable("It is [down]")}, FAILURE),
    ],
)
def test_sweep_says_what_became_of_each_file(monkeypatch, statuses, failed, code):
    done = Swept(failed=failed)
    for number, status in enumerate(statuses):
        done.add("coins", f"{number}.csv", status, "a message")
    monkeypatch.setattr("flows.inprocess.run_flow", lambda *_: done)
    result = run("sweep")
    assert result.exit_code == code
    assert all(status in result.stdout for status in statuses)
    assert not failed or "dice stopped: It is [down]." in result.stderr
    as_json = run("sweep", "--json")
    assert as_json.exit_code == code
    assert [row["status"] for row in document(as_json)["files"]] == statuses


# -- split ------------------------------------------------------------------------------------------

SPLIT = """
import dataclasses
import pandas as pd

def split(source):
    if source == "bad":
        raise ValueError("no such [source]")
    for number in range(3):
        yield f"coins-{number}", pd.DataFrame({"id": [number], "k": [3], "n": [10]})

declaration = dataclasses.replace(declaration, split=split)
"""


def test_split_drops_batches_oldest_first(workspace):
    fakes.declare(workspace.models, code=SPLIT)
    made = document(run("split", "coins", "source", "--json"))["files"]
    assert [Path(path).name for path in made] == [f"coins-{n}.parquet" for n in range(3)]
    assert pd.read_parquet(made[1])["id"].tolist() == [1]
    again = run("split", "coins", "source", "--limit", "2")
    assert again.exit_code == 0
    assert len(again.stdout.split()) == 2


def test_split_needs_a_function(workspace):
    result = run("split", "coins", "source")
    assert result.exit_code == USER_ERROR
    assert "split=" in result.stderr


def test_a_source_that_cannot_be_cut_is_told(workspace):
    fakes.declare(workspace.models, code=SPLIT)
    result = run("split", "coins", "bad")
    assert result.exit_code == USER_ERROR
    assert "ValueError: no such [source]" in result.stderr


# -- json -------------------------------------------------------------------------------------------

COMMANDS = typer.main.get_command(app).commands
#: Arguments of the commands that take others than a chain; with these, nothing is done before it fails.
ARGUMENTS = {
    **dict.fromkeys(("sweep", "demo", "chains", "up", "ui", "worker", "watch", "deploy", "status"), ()),
    **dict.fromkeys(("update", "import"), ("coins", "no.csv")),
    "split": ("dice", "no.csv"),
    "retract": ("coins", "1"),
    "correct": ("coins", "1", "no.csv"),
    "rollback": ("coins", "1"),
    "branch": ("coins", "b"),
    "diff": ("coins@1", "coins"),
    "keygen": (os.devnull,),
    "init": (os.devnull,),
    "acknowledge": ("coins", "--why", "x"),
    "approve": ("coins", "--why", "x"),
    "reject": ("coins", "--why", "x"),
    "recheck": ("coins", "no.json"),
    "pages": (),
    "predict": ("coins", "no.csv", "--out", "no.parquet"),
}


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_takes_json_also_for_its_errors(name, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise LedgerUnavailable("It is down")

    for what in ("flows.environment.prepare", "flows.server.up.Stack.__post_init__", "flows.cli.demo.show"):
        monkeypatch.setattr(what, refuse)
    result = run(name, *ARGUMENTS.get(name, ("coins",)), "--json")
    assert result.exit_code in {FAILURE, USER_ERROR}, result.output
    assert document(result)["error"]["happened"]


# -- servers ----------------------------------------------------------------------------------------


def test_watch_needs_a_server(monkeypatch):
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    result = run("watch")
    assert result.exit_code == USER_ERROR
    assert "lindley up" in result.stderr


def test_up_shows_addresses_and_ends_with_an_error_when_a_child_dies(monkeypatch, workspace):
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("flows.server.up.Stack.start", lambda self: None)

    def supervise(self):
        raise ProcessEnded("The process worker ended by itself")

    monkeypatch.setattr("flows.server.up.Stack.supervise", supervise)
    result = run("up", "--mlflow-port", 0, "--prefect-port", 0, "--pages-port", 0)
    assert result.exit_code == FAILURE
    assert "http://127.0.0.1:" in result.stdout
    assert str(workspace.landing) in result.stdout
    assert "The process worker ended by itself" in result.stderr


def test_ui_as_json(monkeypatch):
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("flows.server.up.Stack.start", lambda self: None)
    monkeypatch.setattr("flows.server.up.Stack.supervise", lambda self: None)
    result = run("ui", "--mlflow-port", 0, "--prefect-port", 0, "--pages-port", 0, "--json")
    assert result.exit_code == 0
    assert set(document(result)) == {"mlflow", "prefect", "pages", "landing", "logs"}
    assert not (Path(os.environ["LINDLEY_HOME"]) / ".lindley" / "up.json").exists()


def test_up_shows_no_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://alice:hunter2@mlflow.example")
    monkeypatch.setenv("PREFECT_API_URL", "https://alice:hunter2@prefect.example/api")
    monkeypatch.setattr("flows.server.up.Stack.start", lambda self: None)
    monkeypatch.setattr("flows.server.up.Stack.supervise", lambda self: None)
    made = document(run("ui", "--pages-port", 0, "--json"))
    assert (made["mlflow"], made["prefect"]) == ("https://mlflow.example", "https://prefect.example")
    assert "hunter2" not in run("up", "--pages-port", 0).output


def test_pictures_are_left_out_on_request(land, ledger):
    run("update", "coins", land("a.csv"), "--direct", "--no-plots")
    (version,) = ledger.versions("coins")
    assert not any(path.startswith("plots/") for path in ledger.artifacts(version.run_id))
    run("update", "coins", land("b.csv", 5), "--direct")
    for version in ledger.versions("coins"):  # the next one that draws makes good for it
        assert any(path.startswith("plots/") for path in ledger.artifacts(version.run_id))


def test_pictures_of_a_flow_are_its_own_task(land):
    found = run("update", "coins", land("a.csv"), "--no-plots")
    assert found.exit_code == 2
    assert "--direct" in found.output
