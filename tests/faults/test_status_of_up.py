"""`lindley status` beside a real `lindley up`: what dies, waits or was refused has its exit code; minutes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tests.e2e.conftest import machine
from tests.e2e.machine import Machine, until

__all__ = ["machine"]
pytestmark = [pytest.mark.faults, pytest.mark.e2e, pytest.mark.timeout(3600)]

#: Disks of the machine that runs the tests, and verification, are asked about apart.
PLAIN = ("--disk-warning", "0", "--disk-critical", "0", "--verification-age", "0")


def status(place: Machine, *options: str) -> tuple[int, dict[str, Any], set[str]]:
    """Return exit code, document, and what the findings are about."""
    command = [sys.executable, "-m", "flows.cli", "status", *(options or PLAIN), "--json"]
    done = subprocess.run(
        command, env=place.environment(), cwd=place.root, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    return done.returncode, document, {finding["what"] for finding in document["findings"]}


def child(place: Machine, name: str) -> psutil.Process:
    """Return a lasting child of `lindley up`."""
    entries = json.loads((place.root / ".lindley" / "processes.json").read_text())
    (found,) = [entry["process"] for entry in entries if entry["name"] == name]
    return psutil.Process(int(found.rsplit(":", 2)[1]))


def ends(place: Machine, kill: Callable[[], object]) -> None:
    """Let `lindley up` end by something that is no stop."""
    assert place.process is not None
    assert place.process.stdout is not None
    kill()
    assert place.process.wait(120) != 0
    place.process.stdout.close()
    place.process = None


def test_the_status_of_lindley_up_follows_what_dies(machine: Machine) -> None:
    machine.up()
    until("a status without findings", lambda: status(machine)[0] == 0)
    _, found, _ = status(machine)
    assert found["processes"] == dict.fromkeys(
        ["up", "mlflow", "prefect", "pages", "worker", "watcher"], True
    )
    assert [server["answers"] for server in found["servers"].values()] == [True] * 3

    # A link that was not verified here, then one that was.
    machine.drop("first.csv", 1)
    until("a head", lambda: machine.head() == 1)
    until("an end of the run", lambda: all(run["end_time"] for run in machine.flow_runs("update")))
    disks = PLAIN[:4]
    code, found, about = status(machine, *disks)
    assert (code, about) == (1, {"beta_binomial"})
    assert machine.lindley("verify", "beta_binomial")["ok"]
    code, found, about = status(machine, *disks)
    assert (code, about) == (0, set())
    (row,) = found["chains"]
    assert (row["links"], row["verified"], row["verified_head"]) == (1, True, True)
    assert status(machine, *disks, "--verification-age", "1e-6")[0] == 1
    assert status(machine, "--disk-critical", "1e9")[0] == 2

    # A file that is refused.
    machine.drop("bad.csv", 0, text="id,k,n\n1,3,ten\n")
    until("a rejection", lambda: status(machine)[1]["files"]["rejected"] == 1)
    code, _, about = status(machine)
    assert (code, about) == (1, {"rejected"})
    plain = (*PLAIN, "--rejected-age", "0")
    assert status(machine, *plain)[0] == 0

    # A worker that dies ends `lindley up`, and a file waits.
    ends(machine, lambda: child(machine, "worker").send_signal(signal.SIGKILL))
    machine.drop("second.csv", 10)
    path = machine.root / "data" / "landing" / "beta_binomial" / "second.csv"
    os.utime(path, (time.time() - 7200,) * 2)
    code, found, about = status(machine, *plain)
    assert (code, found["processes"]["up"], found["files"]["waiting"]) == (2, False, 1)
    assert {"up", "mlflow", "prefect", "landing"} <= about

    # Started again it takes the file; a watcher, a server, and `lindley up` itself can die as well.
    for name in ("watcher", "mlflow", "up"):
        machine.up()
        until("a status without findings", lambda: status(machine, *plain)[0] == 0)
        if name == "watcher":
            until("two links", lambda: status(machine, *plain)[1]["chains"][0]["links"] == 2)
        victim = psutil.Process(machine.process.pid) if name == "up" else child(machine, name)
        ends(machine, lambda victim=victim: victim.send_signal(signal.SIGKILL))
        code, _, about = status(machine, *plain)
        assert (code, "up" in about) == (2, True), name

    # What was stopped is not missed.
    machine.up()
    until("a status without findings", lambda: status(machine, *plain)[0] == 0)
    machine.down()
    assert status(machine, *plain)[0] == 0
