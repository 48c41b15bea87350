"""`lindley up` without servers; the end-to-end tests start them."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import psutil
import pytest
import yaml

from flows import running
from flows.server import up
from flows.server.processes import Supervisor
from flows.server.up import Options, ProcessEnded, Stack, StartFailed, deployments_file, stack
from flows.server.watch import EVENT
from tests.e2e.machine import until


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture(autouse=True)
def no_servers_elsewhere(monkeypatch):
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_a_port_in_use_is_reported(workspace, stop):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartFailed, match=f"MLflow cannot use port {port}.*--mlflow-port 0"):
            Stack(workspace, Options(mlflow_port=port), print, stop)
        with pytest.raises(StartFailed, match=f"Pages cannot use port {port}.*--pages-port 0"):
            Stack(workspace, Options(mlflow_port=0, prefect_port=0, pages_port=port), print, stop)


def test_zero_takes_free_ports(workspace, stop):
    made = Stack(workspace, Options(mlflow_port=0, prefect_port=0, pages_port=0), print, stop)
    assert len({made.servers.mlflow, made.servers.prefect, made.servers.pages}) == 3
    assert not made.servers.mlflow.endswith(":0")


def test_servers_that_the_user_names_are_used(workspace, stop, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example/")
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example/api")
    made = Stack(workspace, Options(pages_port=0), print, stop)
    assert (made.servers.mlflow, made.servers.prefect) == ("http://mlflow.example", "http://prefect.example")


@pytest.mark.parametrize(
    "api", ["https://api.prefect.cloud/api/accounts/a/workspaces/w", "http://prefect.example/orion"]
)
def test_the_address_of_a_prefect_api_stays_as_it_is(workspace, stop, monkeypatch, api):
    monkeypatch.setenv("PREFECT_API_URL", api)
    made, asked = Stack(workspace, Options(mlflow_port=0, pages_port=0), print, stop), []
    monkeypatch.setattr(running, "_get", lambda url: asked.append(url) or "true")
    assert running.prefect_answers(made.servers.prefect_api)
    assert asked == [f"{api}/health"]
    assert made._environment()["PREFECT_API_URL"] == api
    assert made.servers.prefect == api


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:9"])
def test_a_password_in_an_address_is_not_shown(workspace, stop, monkeypatch, host):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://alice:hunter2@{host}")
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setattr(up, "time", SimpleNamespace(monotonic=itertools.count(0, 9).__next__))
    said: list[str] = []
    with pytest.raises(StartFailed) as caught, stack(workspace, Options(pages_port=0), said.append, stop):
        pass
    assert caught.value.expected == f"a server at https://{host}"
    assert "hunter2" not in f"{caught.value}{said}"


def test_a_database_of_the_users_is_served(workspace, stop, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:////tmp/mine.db")
    made = Stack(workspace, Options(mlflow_port=0, pages_port=0), print, stop)
    assert made.servers.mlflow.startswith("http://127.0.0.1")


def test_only_one_runs_per_folder(workspace, stop, monkeypatch):
    monkeypatch.setattr(Stack, "start", lambda self: None)
    options = Options(mlflow_port=0, prefect_port=0, pages_port=0)
    with (
        stack(workspace, options, print, stop),
        pytest.raises(StartFailed, match="already run"),
        stack(workspace, options, print, stop),
    ):
        pass
    with stack(workspace, options, print, stop):
        pass


#: Listens on a free port, prints it, and stays.
SERVER = """
import socket, time
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
time.sleep(120)
"""


@pytest.fixture
def leftovers(workspace) -> Iterator[dict[str, int]]:
    """What a killed `lindley up` leaves: its addresses, its list of children, and the children."""
    supervisor, ports = Supervisor(workspace.root / ".lindley"), {}
    for name in ("mlflow", "prefect"):
        child = supervisor.start(name, [sys.executable, "-c", SERVER], os.environ, workspace.root)
        until(f"{name} listens", child.log.read_text, 60)
        ports[name] = int(child.log.read_text())
    running.remember(workspace, running.Servers("http://127.0.0.1:1", "http://127.0.0.1:2/api"))
    yield ports
    for child in supervisor.children:
        child.process.kill()
        child.process.wait()


def test_the_next_start_gets_the_ports_that_a_killed_one_held(workspace, stop, leftovers, monkeypatch):
    monkeypatch.setattr(Stack, "start", lambda self: None)
    options, said = (
        Options(mlflow_port=leftovers["mlflow"], prefect_port=leftovers["prefect"], pages_port=0),
        [],
    )
    with stack(workspace, options, said.append, stop) as made:
        assert made.servers.mlflow == f"http://127.0.0.1:{leftovers['mlflow']}"
        assert made.servers.prefect == f"http://127.0.0.1:{leftovers['prefect']}"
        assert not running.state_file(workspace).exists()
    assert said == ["Ended processes of an earlier run: mlflow, prefect"]


def test_children_end_although_notifying_fails(workspace, stop, monkeypatch):
    """The terminal is gone, and there is a flow run to report."""
    monkeypatch.setattr(up, "mark_crashed", lambda *_: ["a run"])

    def notify(_: str) -> None:
        raise OSError("Input/output error")

    made = Stack(workspace, Options(mlflow_port=0, prefect_port=0, pages_port=0), notify, stop)
    child = made.supervisor.start("mlflow", [sys.executable, "-c", SERVER], os.environ, workspace.root)
    with pytest.raises(OSError, match="Input/output"):
        made.stop()
    assert child.process.returncode is not None


def test_a_child_that_dies_ends_everything_and_shows_its_last_lines(workspace, stop, monkeypatch):
    good = [sys.executable, "-c", "import time; time.sleep(99)"]
    bad = [sys.executable, "-c", "print('no disk'); raise SystemExit(7)"]

    def start(self: Stack) -> None:
        running.remember(self.workspace, self.servers)
        self.supervisor.start("good", good, {}, workspace.root)
        self.supervisor.start("bad", bad, {}, workspace.root)

    monkeypatch.setattr(Stack, "start", start)
    children = []

    def run() -> None:
        with stack(workspace, Options(mlflow_port=0, prefect_port=0, pages_port=0), print, stop) as made:
            children.extend(made.supervisor.children)
            made.supervise()

    with pytest.raises(ProcessEnded, match=r"The process bad ended by itself.*exit code 7: no disk"):
        run()
    assert not psutil.pid_exists(children[0].process.pid)
    # Nothing asked for the end: `lindley status` goes by the file that is left, commands do not.
    assert running.state_file(workspace).exists()
    assert running.addresses(workspace) is None
    with stack(workspace, Options(mlflow_port=0, prefect_port=0, pages_port=0), print, stop):
        stop.set()
    assert not running.state_file(workspace).exists()


def test_a_failed_command_is_reported_with_its_output(workspace, stop):
    made = Stack(workspace, Options(mlflow_port=0, prefect_port=0, pages_port=0), print, stop)
    with pytest.raises(StartFailed, match="No module named no_such_module"):
        made._run("pool", "no_such_module")


def test_a_server_elsewhere_that_does_not_answer_is_reported(workspace, stop, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    made = Stack(workspace, Options(mlflow_port=0, pages_port=0), print, stop)
    # In place of the module: the clock itself is also read by other threads.
    monkeypatch.setattr(up, "time", SimpleNamespace(monotonic=itertools.count(0, 9).__next__))
    with pytest.raises(StartFailed, match=r"prefect server does not answer.*127\.0\.0\.1:9.*unset it"):
        made._await("prefect", lambda: False, True)


def test_a_stop_during_the_start_ends_the_waiting(workspace, stop):
    made = Stack(workspace, Options(mlflow_port=0, prefect_port=0, pages_port=0), print, stop)
    stop.set()
    made._await("mlflow", lambda: False, False)


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def terminal():
    """A process that its terminal can end, even where the tests themselves run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("terminal")
@pytest.mark.parametrize("number", SIGNALS)
def test_signals_stop_it_and_their_handlers_are_restored(number):
    before = [signal.getsignal(each) for each in SIGNALS]
    with up.stop_signals() as event:
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert event.is_set()
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_under_nohup_the_end_of_the_terminal_changes_nothing():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with up.stop_signals() as event:
            signal.raise_signal(signal.SIGHUP)
            assert not event.is_set()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_working_folder_may_have_its_own_deployments(workspace):
    assert deployments_file(workspace).parent != workspace.root
    (workspace.root / "prefect.yaml").write_text("name: mine\n")
    assert deployments_file(workspace).parent == workspace.root


def test_the_deployments_name_no_machine_and_expect_the_event():
    text = (up.Path(up.__file__).parents[2] / "prefect.yaml").read_text()
    document = yaml.safe_load(text)
    made = {item["name"]: item for item in document["deployments"]}
    update, rebase, sweep, verify = (made[name] for name in ("update", "rebase", "sweep", "verify"))
    trigger, notified = update["triggers"]
    assert notified["match"] == {"prefect.resource.id": "lindley.bucket"}
    assert set(notified["parameters"]) == {"chain", "file"}
    assert trigger["expect"] == [EVENT]
    assert trigger["match"] == {"prefect.resource.id": "lindley.landing.*"}
    assert set(trigger["parameters"]) == {"chain", "file"}
    assert sweep["schedules"][0]["cron"] == "*/15 * * * *"
    assert verify["schedules"][0]["cron"] == "30 2 * * *"
    assert verify["parameters"] == {"reproduce": 0}  # no stored code runs unless it is asked for
    assert {item["work_pool"]["name"] for item in document["deployments"]} == {up.POOL}
    assert "triggers" not in rebase
    assert "schedules" not in rebase
    assert document["pull"] == [{"flows.environment.enter_workspace": {}}]
    assert "/home" not in text
