"""Servers of one's own and busy chains: a killed run is marked, an idle chain is updated; minutes each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.server.deploy import SILENT_SECONDS
from tests.e2e.machine import ROOT, ask, until
from tests.support.servers import free_port

pytestmark = [pytest.mark.faults, pytest.mark.e2e, pytest.mark.timeout(1500)]

#: Makes a model wait while the working folder contains a file ``hold``, and create a file ``held``.
_HOLD = """
    import os, time
    home = Path(os.environ["LINDLEY_HOME"])
    while (home / "hold").exists():
        (home / "held").touch()
        time.sleep(0.1)
"""
_BUILD = "    with pm.Model() as model:\n"
#: Seconds that Prefect's server may take to act on a missing heartbeat, beyond the stated ones.
_SLACK = 60


@dataclass
class Own:
    """A Prefect server of one's own, with what `lindley deploy` puts on it, and a worker that is chosen."""

    root: Path
    port: int = field(default_factory=free_port)
    running: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        ours = ("LINDLEY", "PREFECT", "MLFLOW")
        clean = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return clean | {
            "LINDLEY_HOME": str(self.root), "PREFECT_HOME": str(self.root / ".prefect"),
            "PYTHONPATH": str(ROOT),
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api", "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PREFECT_WORKER_PREFETCH_SECONDS": "0", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        }  # fmt: skip

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.root / "log").open("ab") as log:
            made = subprocess.Popen(
                [sys.executable, "-P", "-m", *command], env=self.environment, cwd=self.root, stdout=log,
                stderr=log, start_new_session=True,
            )  # fmt: skip
        self.running.append(made)
        return made

    def serve(self) -> subprocess.Popen[bytes]:
        """Start the Prefect server and wait until it answers."""
        made = self.start("prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        until("a Prefect server", lambda: self.api("health"))
        return made

    def api(self, path: str, body: Any = None) -> Any:
        try:
            return ask(f"http://127.0.0.1:{self.port}/api/{path}", body)
        except OSError:
            return None

    def runs(self, chain: str) -> list[dict[str, Any]]:
        """Return the runs of updates of a chain that a worker carries out, oldest first."""
        wanted = {"flows": {"name": {"any_": ["update"]}}, "sort": "START_TIME_ASC"}
        found = self.api("flow_runs/filter", wanted) or []
        return [run for run in found if run["deployment_id"] and run["name"].startswith(f"{chain} <-")]

    def submit(self, chain: str, name: str) -> None:
        """Start a run of the deployment, once; a server that is too busy is asked again."""
        wanted = {"deployments": {"name": {"any_": ["update"]}}}
        (update,) = until("the deployment", lambda: self.api("deployments/filter", wanted))
        body = {"parameters": {"chain": chain, "file": name}, "idempotency_key": f"{chain} {name}"}
        until("a run", lambda: self.api(f"deployments/{update['id']}/create_flow_run", body))

    def land(self, chain: str, name: str, rows: str) -> None:
        folder = self.root / "data" / "landing" / chain
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(rows)
        os.utime(folder / name, (time.time() - 60 + len(self.runs(chain)),) * 2)

    def stop(self) -> None:
        for process in reversed(self.running):
            for one in (
                [*psutil.Process(process.pid).children(recursive=True)] if process.poll() is None else []
            ):
                one.kill()
            process.kill()
            process.wait()


@pytest.fixture(params=["warm worker", "Prefect's own worker"])
def own(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Own]:
    made = Own(tmp_path)
    (tmp_path / "models").mkdir()
    source = (ROOT / "models" / "beta_binomial.py").read_text()
    assert source.count(_BUILD) == 1
    (tmp_path / "models" / "beta_binomial.py").write_text(source.replace(_BUILD, _HOLD + _BUILD))
    (tmp_path / "models" / "normal_mean.py").write_text((ROOT / "models" / "normal_mean.py").read_text())
    try:
        made.serve()
        assert made.start("flows.cli", "deploy").wait() == 0, (tmp_path / "log").read_text()[-3000:]
        warm = ("flows.cli", "worker", "--limit", "2")
        plain = ("prefect", "worker", "start", "--pool", "lindley", "--limit", "2")
        made.start(*(warm if request.param == "warm worker" else plain))
        yield made
    finally:
        made.stop()


def _beta(start: int) -> str:
    return "id,k,n\n" + "".join(f"{i},4,10\n" for i in range(start, start + 5))


def test_an_idle_chain_is_updated_while_runs_of_a_busy_one_wait(own: Own) -> None:
    (own.root / "hold").touch()
    for number in range(4):
        own.land("beta_binomial", f"{number}.csv", _beta(10 * number))
        own.submit("beta_binomial", f"{number}.csv")
        until("the run that is held", (own.root / "held").exists)

    # Two places: one is held, the three runs come and go in the other.
    def names() -> list[str]:
        return [run["state"]["name"] for run in own.runs("beta_binomial")]

    until("three runs that left", lambda: names().count("Postponed") >= 3)
    own.land("normal_mean", "idle.csv", "id,y\n" + "".join(f"{i},{i / 7}\n" for i in range(5)))
    own.submit("normal_mean", "idle.csv")
    idle = until("the idle chain", lambda: [r for r in own.runs("normal_mean") if r["end_time"]])
    assert [run["state"]["name"] for run in idle] == ["Completed"]
    assert "Running" in names()
    (own.root / "hold").unlink()
    landing = own.root / "data" / "landing" / "beta_binomial"
    until("an empty landing folder", lambda: not list(landing.iterdir()))
    until("the end of all runs", lambda: all(run["end_time"] for run in own.runs("beta_binomial")))
    assert len(list((own.root / "data" / "store" / "beta_binomial").iterdir())) == 4
    assert {run["state_type"] for run in own.runs("beta_binomial")} == {"COMPLETED"}


def test_a_run_whose_machine_died_is_marked_as_crashed(own: Own) -> None:
    """Worker and run are killed at once: nothing is left that could report it, but the automation."""
    (own.root / "hold").touch()
    own.land("beta_binomial", "a.csv", _beta(0))
    own.submit("beta_binomial", "a.csv")
    until("the run that is held", (own.root / "held").exists)
    until("a heartbeat", lambda: own.runs("beta_binomial")[0]["state_type"] == "RUNNING")
    time.sleep(35)  # a run is dead when its heartbeats end: there must have been one
    worker = psutil.Process(own.running[-1].pid)
    for process in [worker, *worker.children(recursive=True)]:
        os.kill(process.pid, signal.SIGKILL)
    killed = time.monotonic()
    until(
        "a crashed run",
        lambda: own.runs("beta_binomial")[0]["state_type"] == "CRASHED",
        SILENT_SECONDS + _SLACK,
    )
    (run,) = own.runs("beta_binomial")
    assert "no heartbeat" in run["state"]["message"]
    print(f"marked as crashed {time.monotonic() - killed:.0f} s after the kill")
    assert (own.root / "data" / "landing" / "beta_binomial" / "a.csv").exists()


def test_a_prefect_server_that_is_killed_and_started_again_in_mid_run_loses_nothing(own: Own) -> None:
    (own.root / "hold").touch()
    own.land("beta_binomial", "a.csv", _beta(0))
    own.submit("beta_binomial", "a.csv")
    until("the run that is held", (own.root / "held").exists)
    server = psutil.Process(own.running[0].pid)
    for process in [*server.children(recursive=True), server]:
        process.kill()
    own.running[0].wait()
    time.sleep(5)
    own.serve()
    (own.root / "hold").unlink()
    store = own.root / "data" / "store" / "beta_binomial"
    until("the batch in the store", lambda: store.exists() and list(store.iterdir()))
    until("the end of the run", lambda: all(run["end_time"] for run in own.runs("beta_binomial")))
    # A file that comes afterwards is the second link: the first one is there, once.
    own.land("beta_binomial", "b.csv", _beta(10))
    own.submit("beta_binomial", "b.csv")
    until("both batches in the store", lambda: len(list(store.iterdir())) == 2)
    command = [sys.executable, "-P", "-m", "flows.cli", "log", "beta_binomial", "--json"]
    until("two links", lambda: len(_links(own, command)) == 2)


def _links(own: Own, command: list[str]) -> list[Any]:
    done = subprocess.run(
        command, env=own.environment, cwd=own.root, capture_output=True, text=True, check=False
    )
    found: list[Any] = json.loads(done.stdout)["links"] if done.returncode == 0 else []
    return found
