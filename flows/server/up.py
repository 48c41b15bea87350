"""Run everything on one machine: servers, pages, deployments, worker and watcher, on loopback only."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from flows import access, environment, running
from flows.server.dead_runs import mark_crashed
from flows.server.processes import Child, Supervisor
from lindley.addresses import public
from lindley.errors import LindleyError
from lindley.ledger.backend import embedded_files, require_servable
from lindley.workspace import Workspace

POOL = "lindley"
#: Flow runs that a worker carries out at once: a fit keeps both cores of a small machine busy.
RUNS_AT_ONCE = 2
#: Seconds that a server may take to answer for the first time.
START_SECONDS = 240.0

_LOOPBACK = "127.0.0.1"
#: Environment variable with the address of a webhook for events.
NOTIFY = "LINDLEY_NOTIFY"
#: What stands before MLflow's application; that module imports uvicorn.
MLFLOW_PROTOCOL = "flows.server.mlflow_server:guarded"


class StartFailed(LindleyError):
    """A server or worker did not start."""


class ProcessEnded(LindleyError):
    """A server or worker ended by itself; a second attempt may succeed."""

    transient = True


@dataclass(frozen=True, kw_only=True)
class Options:
    """What to start.

    Parameters
    ----------
    mlflow_port, prefect_port, pages_port
        Ports on loopback; 0 takes a free one.
    servers_only
        Leave out deployments, worker and watcher.
    watcher
        Start the watcher.
    foreign_runs
        Flow runs may have a command or an environment of their own.
    webhook
        Address of a webhook that gets the events of chains; not shown, since it may hold a secret.
    """

    mlflow_port: int = 5000
    prefect_port: int = 4200
    pages_port: int = 5078
    servers_only: bool = False
    watcher: bool = True
    foreign_runs: bool = False
    webhook: str = field(default="", repr=False)


@dataclass
class Stack:
    """The running processes of one working folder.

    Parameters
    ----------
    workspace
        The working folder.
    options
        What to start.
    notify
        Takes one sentence about progress.
    stop_wanted
        Set to end everything, at any time, start-up included.
    """

    workspace: Workspace
    options: Options
    notify: Callable[[str], object]
    stop_wanted: threading.Event
    supervisor: Supervisor = field(init=False)
    servers: running.Servers = field(init=False)

    def __post_init__(self) -> None:
        """Choose the addresses."""
        self.supervisor = Supervisor(self.workspace.root / ".lindley")
        mlflow, prefect = self.options.mlflow_port, self.options.prefect_port
        self.servers = running.Servers(
            mlflow=self._own_mlflow or f"http://{_LOOPBACK}:{_port(mlflow, 'MLflow')}",
            prefect_api=self._own_prefect or f"http://{_LOOPBACK}:{_port(prefect, 'Prefect')}/api",
            ours=not self._own_prefect,
            pages=f"http://{_LOOPBACK}:{_port(self.options.pages_port, 'Pages')}",
        )

    def start(self) -> None:
        """Start everything and wait until it answers.

        Raises
        ------
        StartFailed, ProcessEnded, LedgerUnavailable
            If something does not start; what has started still runs.
        """
        if not self._own_mlflow:
            self._start_mlflow()
        if not self._own_prefect:
            self._start_prefect()
        self._await("mlflow", lambda: running.mlflow_answers(self.servers.mlflow), bool(self._own_mlflow))
        self._await(
            "prefect", lambda: running.prefect_answers(self.servers.prefect_api), bool(self._own_prefect)
        )
        running.remember(self.workspace, self.servers)
        self._mark_dead_runs()
        self._start("pages", "flows.cli", "pages", "--port", self.servers.pages.rpartition(":")[2])
        if not self.options.servers_only and not self.stop_wanted.is_set():
            self._deploy()
        self._await("pages", lambda: running.pages_answer(self.servers.pages), False)

    def supervise(self) -> None:
        """Wait until `stop_wanted` is set.

        Raises
        ------
        ProcessEnded
            If a child ends by itself.
        """
        while not self.stop_wanted.wait(0.5):
            self._require_children()

    def stop(self, *, failed: bool = False) -> None:
        """End everything that was started.

        Parameters
        ----------
        failed
            Whether an error ends it: its file of addresses stays, as after a kill, so that `lindley status`
            reports an installation that is down.
        """
        try:
            if failed and not self.stop_wanted.is_set():
                running.remember(self.workspace, self.servers)
            else:
                running.forget(self.workspace)
            self.supervisor.end("watcher", "worker", "pages")
            self._mark_dead_runs()
        finally:
            self.supervisor.stop()  # even if `notify` fails, as it does after a dropped connection

    # -- servers that the user runs elsewhere are used, not started ----------------------------------

    @property
    def _own_mlflow(self) -> str:
        uri = os.environ.get("MLFLOW_TRACKING_URI", "").rstrip("/")
        return uri if uri and not uri.startswith("sqlite:") else ""

    @property
    def _own_prefect(self) -> str:
        return os.environ.get("PREFECT_API_URL", "").rstrip("/")

    # -- pieces --------------------------------------------------------------------------------------

    def _environment(self) -> dict[str, str]:
        """Return the environment of all children."""
        root = self.workspace.root
        ours = {
            **environment.variables(self.workspace),
            **environment.WORKER,
            "LINDLEY_MODELS": str(self.workspace.models),
            "LINDLEY_DATA": self.workspace.data,
            "PYTHONUNBUFFERED": "1",
            # Half of the memory and a third of the start-up time of the default.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            # Leases that survive a restart of the server; in memory they would stay taken.
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        }
        addresses = {
            "LINDLEY_HOME": str(root),
            "MLFLOW_TRACKING_URI": self.servers.mlflow,
            "PREFECT_API_URL": self.servers.prefect_api,
        }
        password = access.variables(self.workspace) if self.servers.ours else {}
        return ours | dict(os.environ) | addresses | password

    def _start(self, name: str, *command: str, more: Mapping[str, str] | None = None) -> Child:
        """Start a Python module; a folder `flows` of the user's does not hide Lindley's."""
        python = [sys.executable, "-P", "-m", *command]
        # MLflow's server starts another one in turn, which would import from the current folder first.
        safe = {"PYTHONSAFEPATH": "1", "UVICORN_APP_DIR": sys.prefix} if name == "mlflow" else {}
        given = self._environment() | safe | dict(more or {})
        return self.supervisor.start(name, python, given, self.workspace.root)

    def _start_mlflow(self) -> None:
        files = embedded_files(self.workspace)
        # A fresh database is made once: several processes that do it together break it for good.
        with FileLock(f"{files.database}.lock"):
            if not files.database.exists():
                self._run("mlflow-database", "mlflow", "db", "upgrade", self.workspace.tracking_uri)
        require_servable(self.workspace)
        # Artifacts by path, not through the server: the embedded mode reads the same ledger without it.
        self._start(
            "mlflow",
            *("mlflow", "server", "--host", _LOOPBACK, "--port", self.servers.mlflow.rpartition(":")[2]),
            *("--workers", "1", "--backend-store-uri", self.workspace.tracking_uri),
            *("--uvicorn-opts", f"--http {MLFLOW_PROTOCOL}", *_allowed_hosts()),
            *("--no-serve-artifacts", "--default-artifact-root", files.artifacts.as_uri()),
        )

    def _start_prefect(self) -> None:
        port = self.servers.prefect.rpartition(":")[2]
        self._start("prefect", "flows.server.prefect_server", "--host", _LOOPBACK, "--port", port)

    def _mark_dead_runs(self) -> None:
        """Mark the runs of an ended worker as crashed; only on our own server, which has one worker."""
        if self.servers.ours:
            password = access.auth_string(self.workspace)
            for name in mark_crashed(self.servers.prefect, POOL, password):
                self.notify(f"{name} was interrupted; its file is taken again, or its question")

    def _deploy(self) -> None:
        """Deploy the flows, then start what runs them."""
        deployments_file(self.workspace)
        self.notify("Deploying the flows")
        foreign = ("--foreign-runs",) if self.options.foreign_runs else ()
        webhook = {NOTIFY: self.options.webhook} if self.options.webhook else {}
        self._run("deploy", "flows.cli", "deploy", "--pool", POOL, *foreign, more=webhook)
        self._start("worker", "flows.cli", "worker", "--pool", POOL, "--limit", str(RUNS_AT_ONCE), *foreign)
        if self.options.watcher:
            self._start("watcher", "flows.cli", "watch")

    def _run(self, name: str, *command: str, more: Mapping[str, str] | None = None) -> None:
        """Run a short command and wait for its end; its output goes into a log.

        `more` is added to its environment: what the list of processes must not show.
        """
        child = self._start(name, *command, more=more)
        if self.supervisor.wait_for(child) != 0:
            raise StartFailed(f"`{' '.join(command)}` failed", expected="exit code 0", **_end(child))

    def _require_children(self) -> None:
        child = self.supervisor.dead()
        if child is not None:
            raise ProcessEnded(
                f"The process {child.name} ended by itself",
                expected="a process that runs until Lindley is stopped",
                **_end(child),
            )

    def _await(self, name: str, answers: Callable[[], bool], elsewhere: bool) -> None:
        """Wait until a server answers."""
        self.notify(f"Waiting for {name}")
        deadline = time.monotonic() + (10 if elsewhere else START_SECONDS)
        while not answers() and not self.stop_wanted.wait(0.3):
            self._require_children()
            if time.monotonic() > deadline:
                raise StartFailed(
                    f"The {name} server does not answer",
                    expected=f"a server at {public(getattr(self.servers, name))}",
                    found="no answer",
                    todo="correct the address in the environment, or unset it"
                    if elsewhere
                    else f"see {self.supervisor.folder / 'logs' / name}.log",
                )


def deployments_file(workspace: Workspace) -> Path:
    """Return the ``prefect.yaml`` that is deployed: the working folder's own, or Lindley's.

    Raises
    ------
    StartFailed
        If there is neither.
    """
    for folder in (workspace.root, Path(__file__).resolve().parents[1]):
        if (folder / "prefect.yaml").is_file():
            return folder / "prefect.yaml"
    raise StartFailed(
        "There are no deployments",
        expected=f"a file prefect.yaml in {workspace.root}",
        found="none",
        todo="copy Lindley's prefect.yaml into the working folder",
    )


@contextmanager
def stack(
    workspace: Workspace, options: Options, notify: Callable[[str], object], stop_wanted: threading.Event
) -> Iterator[Stack]:
    """Run everything during a block, once per working folder.

    Raises
    ------
    StartFailed, ProcessEnded, LedgerMoved, LedgerUnavailable
        If it runs already, or does not start.
    """
    folder = workspace.root / ".lindley"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / "up.lock").acquire(timeout=0)
    except Timeout:
        raise StartFailed(
            "Lindley's servers already run in this folder",
            expected="one `lindley up` or `lindley ui` per working folder",
            found=f"its addresses in {running.state_file(workspace)}",
            todo="use them, or stop them first",
        ) from None
    with lock:
        # The processes that a killed run left behind end before anything else: they hold the ports.
        running.forget(workspace)
        ended = Supervisor(folder).end_leftovers()
        if ended:
            notify(f"Ended processes of an earlier run: {', '.join(ended)}")
        made, failed = Stack(workspace, options, notify, stop_wanted), True
        try:
            made.start()
            yield made
            failed = False
        finally:
            made.stop(failed=failed)


@contextmanager
def stop_signals() -> Iterator[threading.Event]:
    """Give an event that SIGINT, SIGTERM and SIGHUP set; further signals change nothing."""
    stop = threading.Event()
    numbers = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        numbers.remove(signal.SIGHUP)  # nohup: the command outlives its terminal
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _port(wanted: int, what: str) -> int:
    """Return a port on loopback that is free now; 0 takes any."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, wanted))
        except OSError as error:
            raise StartFailed(
                f"{what} cannot use port {wanted}",
                expected="a free port",
                found=str(error.strerror),
                todo=f"stop the process that uses it, or pass --{what.lower()}-port 0 for a free port",
            ) from error
        return int(probe.getsockname()[1])


def _allowed_hosts() -> tuple[str, ...]:
    """Return the option with which MLflow's server answers under a name of this machine only.

    By default it also answers under any name that begins like a private address: ``10.example.org``. A name
    counts with any port: the near end of an SSH tunnel may have another one.
    """
    if "MLFLOW_SERVER_ALLOWED_HOSTS" in os.environ:
        return ()
    # MLflow matches with `fnmatch`, where a bracket begins a set.
    names = [name.replace("[", "[[]") for name in access.allowed_names()]
    hosts = ",".join([*access.allowed_names(), *(f"{name}:*" for name in names)])
    return ("--allowed-hosts", hosts)


def _end(child: Child) -> dict[str, str]:
    """Return what an error states of a child that ended: exit code and last lines, and where its log is."""
    found = f"exit code {child.process.returncode}: {public(child.last_lines())}"
    return {"found": found, "todo": f"see {child.log}"}
