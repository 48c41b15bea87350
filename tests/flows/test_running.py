"""Which servers run, and what of it is believed."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows import environment, running
from flows.environment import EnvironmentRefused
from flows.running import Servers
from lindley.workspace import Workspace

ANSWERS = {"/mlflow/health": b"OK", "/prefect/api/health": b"true"}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(ANSWERS.get(self.path, b"<html>another server</html>"))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def alive(address) -> Servers:
    return Servers(f"{address}/mlflow", f"{address}/prefect", 1)


def test_servers_that_answer_are_found(workspace, alive):
    assert running.addresses(workspace) is None
    running.remember(workspace, alive)
    assert running.addresses(workspace) == alive
    running.forget(workspace)
    assert running.addresses(workspace) is None
    running.forget(workspace)


@pytest.mark.parametrize("what", ["mlflow", "prefect"])
def test_one_that_is_dead_or_somebody_elses_is_not_believed(workspace, alive, address, what):
    values = {"mlflow": alive.mlflow, "prefect": alive.prefect, "process": 1}
    running.remember(workspace, Servers(**(values | {what: "http://127.0.0.1:9"})))
    assert running.addresses(workspace) is None
    running.remember(workspace, Servers(**(values | {what: f"{address}/other"})))
    assert running.addresses(workspace) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"mlflow": "x", "prefect": "y", "process": "z"}', "null"]
)
def test_a_damaged_file_is_none(workspace, text):
    path = running.state_file(workspace)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert running.addresses(workspace) is None


def test_a_registry_that_is_no_page_counts_as_alive():
    assert running.mlflow_answers("databricks")


# -- environment ------------------------------------------------------------------------------------

PREPARE = """
import os, sys
from pathlib import Path
from flows import environment
from lindley.workspace import Workspace
made = environment.prepare(Workspace.from_environment(Path(sys.argv[1])))
for name in ("PREFECT_HOME", "PREFECT_API_URL", "MLFLOW_TRACKING_URI", "LINDLEY_HOME", "DO_NOT_TRACK"):
    print(os.environ.get(name, "-"))
print(made.tracking_uri)
print(sorted({"prefect", "mlflow", "pymc"} & set(sys.modules)))
"""


def prepared(workspace: Workspace, **variables: str) -> list[str]:
    names = ("PREFECT_HOME", "PREFECT_API_URL", "MLFLOW_TRACKING_URI", "LINDLEY_HOME", "DO_NOT_TRACK")
    clean = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, str(workspace.root)],
        env=clean | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_without_servers_everything_is_in_the_working_folder(workspace):
    root = workspace.root
    assert prepared(workspace) == [
        str(root / ".prefect"), "-", "-", str(root), "1", f"sqlite:///{root / 'mlflow.db'}", "[]",
    ]  # fmt: skip


def test_running_servers_are_used(workspace, alive):
    running.remember(workspace, alive)
    root = str(workspace.root)
    assert prepared(workspace) == [
        root + "/.prefect", alive.prefect + "/api", alive.mlflow, root, "1", alive.mlflow, "[]",
    ]  # fmt: skip


def test_what_the_user_set_wins(workspace, alive):
    running.remember(workspace, alive)
    mine = {
        "PREFECT_API_URL": "http://prefect.example/api",
        "MLFLOW_TRACKING_URI": "http://mlflow.example",
        "PREFECT_HOME": "/home/me",
        "DO_NOT_TRACK": "0",
    }
    assert prepared(workspace, **mine) == [
        "/home/me", mine["PREFECT_API_URL"], mine["MLFLOW_TRACKING_URI"], str(workspace.root), "0",
        mine["MLFLOW_TRACKING_URI"], "[]",
    ]  # fmt: skip


def test_a_server_elsewhere_keeps_the_users_prefect_home(workspace):
    assert prepared(workspace, PREFECT_API_URL="http://prefect.example/api")[0] == "-"


def test_prefect_must_not_be_there_before(workspace):
    import prefect

    assert prefect
    with pytest.raises(EnvironmentRefused, match="Prefect was imported before"):
        environment.prepare(workspace)


def test_a_worker_goes_to_its_working_folder(workspace, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert environment.enter_workspace() == {"directory": str(workspace.root)}
    assert os.getcwd() == str(workspace.root)  # noqa: PTH109


@pytest.mark.parametrize("home", ["", "/no/such/folder"])
def test_a_worker_without_one_is_told(monkeypatch, home):
    monkeypatch.setenv("LINDLEY_HOME", home)
    with pytest.raises(EnvironmentRefused, match="LINDLEY_HOME"):
        environment.enter_workspace()
