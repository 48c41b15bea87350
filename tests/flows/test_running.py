"""Which servers run, and the environment that commands and workers get."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from flows import environment, running
from flows.environment import EnvironmentRefused
from flows.running import Servers
from lindley.addresses import on_loopback
from lindley.workspace import Workspace

#: The last is requested through a proxy.
ANSWERS = {
    "/mlflow/health": b"OK",
    "/prefect/api/health": b"true",
    "/guarded/health": b"OK",
    "http://mlflow.example/health": b"OK",
}
GUEST = base64.b64encode(b"alice:hunter@2").decode()
PROXIES = ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = self.headers["Authorization"] == f"Basic {GUEST}"
        self.send_response(401 if self.path.startswith("/guarded/") and not known else 200)
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
    return Servers(f"{address}/mlflow", f"{address}/prefect/api")


def test_servers_that_answer_are_found(workspace, alive):
    assert running.addresses(workspace) is None
    running.remember(workspace, alive)
    assert running.addresses(workspace) == alive
    running.forget(workspace)
    assert running.addresses(workspace) is None
    running.forget(workspace)


@pytest.mark.parametrize("what", ["mlflow", "prefect_api"])
def test_a_dead_or_foreign_server_is_ignored(workspace, alive, address, what):
    values = {"mlflow": alive.mlflow, "prefect_api": alive.prefect_api}
    running.remember(workspace, Servers(**(values | {what: "http://127.0.0.1:9"})))
    assert running.addresses(workspace) is None
    running.remember(workspace, Servers(**(values | {what: f"{address}/other"})))
    assert running.addresses(workspace) is None


def test_the_file_of_a_killed_process_is_ignored_though_servers_answer_on_its_ports(workspace, alive):
    running.remember(workspace, alive)
    path = running.state_file(workspace)
    document = json.loads(path.read_text())
    host, number, started = document["process"].rsplit(":", 2)
    for other in (f"{host}:{number}:1", f"{host}:{2**22}:{started}", f"elsewhere:{number}:{started}", 1):
        path.write_text(json.dumps(document | {"process": other}))
        assert running.addresses(workspace) is None


def test_a_copied_folder_has_no_servers(workspace, alive, tmp_path_factory):
    running.remember(workspace, alive)
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(workspace.root, copy, dirs_exist_ok=True)
    assert running.addresses(replace(workspace, root=copy)) is None
    assert running.addresses(workspace) == alive


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"mlflow": "x", "prefect_api": "y", "process": "z"}', "null"]
)
def test_a_damaged_file_is_ignored(workspace, text):
    path = running.state_file(workspace)
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert running.addresses(workspace) is None


class Banner(socketserver.BaseRequestHandler):
    """Speaks no HTTP."""

    def handle(self) -> None:
        self.request.recv(65536)
        self.request.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")


def test_a_server_on_the_port_that_speaks_no_http_is_ignored(workspace, alive):
    with socketserver.TCPServer(("127.0.0.1", 0), Banner) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        running.remember(workspace, replace(alive, mlflow=f"http://127.0.0.1:{server.server_address[1]}"))
        found = running.addresses(workspace)
        server.shutdown()
        thread.join()
    assert found is None


def test_user_and_password_of_an_address_are_sent_as_basic_auth(address):
    guarded = address.replace("://", "://alice:hunter%402@") + "/guarded"
    assert running.mlflow_answers(guarded)
    assert not running.mlflow_answers(f"{address}/guarded")
    assert not running.mlflow_answers("https://alice:hunter2@[")


def test_no_password_is_written_down(workspace):
    secret = "https://alice:hunter2@host"
    running.remember(workspace, Servers(secret, f"{secret}/api"))
    text = running.state_file(workspace).read_text()
    assert "https://host/api" in text
    assert "hunter2" not in text


def test_proxies_are_for_servers_elsewhere(address, monkeypatch):
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    assert not running.mlflow_answers("http://mlflow.example:9")
    monkeypatch.setenv("http_proxy", address)
    assert running.mlflow_answers("http://mlflow.example")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert not running.mlflow_answers("http://mlflow.example")
    assert running.mlflow_answers(f"{address}/mlflow")
    assert running.mlflow_answers(f"{address}/mlflow".replace("127.0.0.1", "localhost"))


def test_any_answer_of_a_prefect_server_elsewhere_counts(address, monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    assert not running.prefect_answers(f"{address}/guarded/api")
    assert not running.prefect_answers(f"{address}/cloud")
    monkeypatch.setattr(running, "on_loopback", lambda _: False)
    assert running.prefect_answers(f"{address}/guarded/api")  # Prefect's client has the key, in its profile
    assert running.prefect_answers(f"{address}/cloud")
    assert not running.prefect_answers("http://127.0.0.1:9/api")


@pytest.mark.parametrize(
    ("host", "own"),
    [
        ("127.0.0.1", True), ("127.0.1.1:80", True), ("localhost:5000", True), ("[::1]:5000", True),
        ("a:b@localhost", True), ("localhost@mlflow.example", False), ("10.0.0.1", False), ("", False),
    ],
)  # fmt: skip
def test_addresses_on_this_machine(host, own):
    assert on_loopback(f"http://{host}/api") is own


def test_a_registry_without_an_http_address_counts_as_alive():
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
        root + "/.prefect", alive.prefect_api, alive.mlflow, root, "1", alive.mlflow, "[]",
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


def test_prefect_must_not_be_imported_before(workspace):
    import prefect

    assert prefect
    with pytest.raises(EnvironmentRefused, match="Prefect was imported before"):
        environment.prepare(workspace)


def test_a_worker_goes_to_its_working_folder(workspace, monkeypatch, tmp_path_factory):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    assert environment.enter_workspace() == {"directory": str(workspace.root)}
    assert os.getcwd() == str(workspace.root)  # noqa: PTH109


@pytest.mark.parametrize("home", ["", "/no/such/folder"])
def test_a_worker_without_a_working_folder_is_refused(monkeypatch, home):
    monkeypatch.setenv("LINDLEY_HOME", home)
    with pytest.raises(EnvironmentRefused, match="LINDLEY_HOME"):
        environment.enter_workspace()
