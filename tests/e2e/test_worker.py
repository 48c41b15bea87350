"""The warm worker: runs share a process and nothing else; no batch is lost, no process is left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.e2e.machine import ROOT, Machine, until
from tests.faults.attacks.access import SERVERS
from tests.faults.attacks.listening import Servers
from tests.faults.attacks.table import Try, marked, threat_model

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]

#: Makes a model wait while the working folder contains a file ``hold``, and create a file ``held``.
HOLD = """
    import os, time
    home = Path(os.environ["LINDLEY_HOME"])
    while (home / "hold").exists():
        (home / "held").touch()
        time.sleep(0.1)
"""
BUILD = "    with pm.Model() as model:\n"
PULL_STEPS = [{"flows.environment.enter_workspace": {}}]


@pytest.fixture(scope="module")
def running(machine: Machine) -> Machine:
    source = (ROOT / "models" / "beta_binomial.py").read_text()
    assert source.count(BUILD) == 1
    (machine.root / "models" / "beta_binomial.py").write_text(source.replace(BUILD, HOLD + BUILD))
    shutil.copy(ROOT / "models" / "normal_mean.py", machine.root / "models")
    machine.up()
    return machine


@pytest.fixture
def held(running: Machine) -> Iterator[dict[str, Any]]:
    """Drop a file whose run stops in the middle; give that run."""
    (running.root / "hold").touch()
    number = 10 + len(running.flow_runs("update"))
    running.drop(f"held-{number}.csv", 10 * number)
    until("a run in the middle", (running.root / "held").exists)
    name = f"beta_binomial <- held-{number}.csv"
    (run,) = [run for run in running.flow_runs("update") if run["name"] == name]
    yield run
    (running.root / "hold").unlink(missing_ok=True)
    (running.root / "held").unlink()


def let_go(running: Machine) -> None:
    (running.root / "hold").unlink()


def over(running: Machine, run: dict[str, Any]) -> Any:
    """Return a flow run once it is over."""
    address = f"flow_runs/{run['id']}"

    def ended() -> Any:
        found = running.prefect(address)  # None where the server is busy
        return found and found["end_time"] and found

    return until(f"the end of {run['name']}", ended)


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_runs_of_all_chains_share_a_process_bad_ones_too(running: Machine):
    rows = "".join(f"{i},{i / 7}\n" for i in range(5))
    running.drop("a.csv", 1)
    runs = [running.flow_run("beta_binomial <- a.csv")]
    running.drop("n.csv", 0, chain="normal_mean", text=f"id,y\n{rows}")
    runs.append(running.flow_run("normal_mean <- n.csv"))
    running.drop("bad.csv", 0, text="id,k,n\n1,3,ten\n")
    runs.append(running.flow_run("beta_binomial <- bad.csv"))
    running.drop("b.csv", 6)
    runs.append(running.flow_run("beta_binomial <- b.csv"))
    states = [run["state_type"] for run in runs]
    assert states == ["COMPLETED", "COMPLETED", "FAILED", "COMPLETED"], running.logs()
    assert len({run["infrastructure_pid"] for run in runs}) == 1
    assert psutil.pid_exists(int(runs[0]["infrastructure_pid"]))


def test_a_new_process_draws_the_same_bits(running: Machine):
    report = running.lindley("verify", "beta_binomial", "--reproduce")
    assert [(one["link"], one["result"]) for one in report["reproduced"]] == [
        (1, "identical"),
        (2, "identical"),
    ]
    assert report["ok"]


@pytest.mark.parametrize("variables", [{"env": {"LD_PRELOAD": "evil.so"}}, {"command": "touch pwned"}])
def test_the_pool_takes_no_run_with_a_command_or_an_environment(running: Machine, variables: dict):
    (sweep,) = running.prefect("deployments/filter", {"deployments": {"name": {"any_": ["sweep"]}}})
    address = f"deployments/{sweep['id']}/create_flow_run"
    assert running.prefect(address, {"job_variables": variables}) is None
    run = running.prefect(address, {})
    assert over(running, run)["state_type"] == "COMPLETED"
    assert not (running.root / "pwned").exists()


def test_the_run_of_a_process_that_is_killed_has_crashed_and_its_batch_is_taken_once(
    running: Machine, held: dict[str, Any]
):
    os.kill(int(held["infrastructure_pid"]), signal.SIGKILL)
    run = running.flow_run(held["name"])
    assert (run["state_type"], run["state"]["name"]) == ("CRASHED", "Crashed")
    assert "status code: -9" in run["state"]["message"]
    let_go(running)
    running.drop("c.csv", 11)
    after = running.flow_run("beta_binomial <- c.csv")
    assert after["state_type"] == "COMPLETED", running.logs()
    assert after["infrastructure_pid"] != held["infrastructure_pid"]
    assert running.head() == 4  # a, b, the one that was held, c
    assert not list((running.root / "data" / "landing" / "beta_binomial").iterdir())


def test_cancelling_a_run_ends_its_process_and_the_next_run_gets_another(
    running: Machine, held: dict[str, Any]
):
    state = {"type": "CANCELLING", "name": "Cancelling"}
    running.prefect(f"flow_runs/{held['id']}/set_state", {"state": state})
    run = running.flow_run(held["name"])
    assert run["state_type"] == "CANCELLED"
    until("the end of its process", lambda: is_gone(int(held["infrastructure_pid"])))
    let_go(running)
    running.drop("d.csv", 16)
    assert running.flow_run("beta_binomial <- d.csv")["state_type"] == "COMPLETED"
    assert running.head() == 6


@pytest.mark.parametrize("one", marked(SERVERS))
def test_tries_on_all_that_listens(running: Machine, one: Try):
    """The second attack round; `tests/faults/attacks.csv` has all of it."""
    assert running.process is not None
    outcome = one.measured(Servers(running.root, running.addresses, running.process.pid))
    assert one.as_expected(outcome), f"{one.tried}: {outcome}, not {one.expected}"
    assert one.reference in threat_model()


@pytest.fixture
def small(running: Machine) -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Run a worker of its own on a pool of its own, whose processes do one run; give it and its log."""
    log = running.root / "small.log"
    command = [sys.executable, "-m", "flows.cli", "worker", "--pool", "small", "--limit", "1", "--runs", "1"]
    with log.open("w") as output:
        worker = subprocess.Popen(
            command, env=running.environment(), cwd=running.root, stdout=output, stderr=output, text=True
        )
    yield worker, log
    if worker.poll() is None:
        worker.kill()
    worker.wait()


def test_a_process_that_has_done_its_runs_is_replaced_and_none_outlives_its_worker(
    running: Machine, small: tuple[subprocess.Popen[str], Path]
):
    worker, log = small
    until("the pool", lambda: running.prefect("work_pools/small"))
    (swept,) = running.prefect("flows/filter", {"flows": {"name": {"any_": ["sweep"]}}})
    ours = {"name": "small", "flow_id": swept["id"], "entrypoint": "flows.sweep.sweep"}
    made = running.prefect("deployments/", ours | {"pull_steps": PULL_STEPS, "work_pool_name": "small"})

    def created(**given: Any) -> Any:
        address = f"deployments/{made['id']}/create_flow_run"
        return until("a run", lambda: running.prefect(address, given))  # SQLite may be busy

    pids = [int(over(running, created())["infrastructure_pid"]) for _ in range(2)]
    # This pool, which the worker made, has Prefect's template: the worker itself refuses.
    variables = {"command": f"touch {running.root / 'pwned'}"}
    refused = over(running, created(job_variables=variables))["state"]
    assert (refused["type"], refused["name"]) == ("FAILED", "Failed")
    assert "it has job variables: command" in refused["message"]
    assert not (running.root / "pwned").exists()
    assert pids[0] != pids[1]
    assert f"Warm process {pids[0]} is replaced after 1 run: it has done its 1 run" in log.read_text()
    children = until("a third process", lambda: psutil.Process(worker.pid).children(recursive=True))
    worker.kill()
    worker.wait()
    until("the end of its processes", lambda: all(is_gone(child.pid) for child in children))


def test_everything_stops_and_leaves_no_process(running: Machine):
    assert running.down() == 0
    assert running.alive() == []
