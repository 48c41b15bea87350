"""Processes are known as alive or dead on their own machine only; containers are machines of their own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mlflow import MlflowClient

from lindley import process
from lindley.ledger.mlflow import store
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.protocol import Run, RunStatus
from lindley.ledger.record import Status

#: Runs a command as the first process of a container on this machine, with a host name; needs root.
CONTAINER = ("unshare", "--uts", "--pid", "--fork", "--mount-proc")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="containers need root and unshare"
)


@contextmanager
def container(code: str) -> Iterator[str]:
    """Run code in a container with this machine's host name and keep it; gives what it prints first."""
    command = f'hostname "{socket.gethostname()}"; "{sys.executable}" -P -u -c "{code}"; read _'
    environment = os.environ | {"PYTHONPATH": str(Path(process.__file__).parents[1])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*CONTAINER, "sh", "-c", command], env=environment, text=True, **pipes) as running:  # type: ignore[call-overload]
        try:
            yield running.stdout.readline().strip()
        finally:
            running.stdin.close()


def parts() -> list[str]:
    """Return host name, installation, boot and namespace of this machine."""
    return process.describe().rsplit(":", 2)[0].rsplit("/", 3)


def of(machine: list[str], pid: int | str = os.getpid(), started: str = "1") -> str:
    return f"{'/'.join(machine)}:{pid}:{started}"


def test_this_process_lives() -> None:
    assert process.describe().startswith(f"{socket.gethostname()}/")
    assert f":{os.getpid()}:" in process.describe()
    assert not process.died(process.describe())
    assert process.lives(process.describe())


def test_a_killed_process_died_even_before_its_parent_waits_for_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        writer = process.describe(child.pid)
        assert process.lives(writer)
        child.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert process.died(writer)
    assert process.died(writer)


def test_a_process_of_the_same_number_is_another_one() -> None:
    assert process.died(of(parts()))


@pytest.mark.parametrize(
    "writer", ["", "x", "otherhost:1:1", f"otherhost:{2**22}:5", "::", "a:b:c:d", "a/b/c/d:1:2", "///:1:"]
)
def test_processes_of_other_machines_are_neither_dead_nor_alive(writer: str) -> None:
    assert process.lives(writer) is None
    assert not process.died(writer)


def test_what_is_no_process_is_not_dead() -> None:
    assert process.lives(of(parts(), "x")) is None


@pytest.mark.parametrize("part", range(4))
def test_a_machine_is_this_one_only_if_all_of_it_is(part: int) -> None:
    """Its host name, its installation, its boot and the namespace that its process ids are of."""
    other = parts()
    other[part] = "other"
    started = process.describe().rsplit(":", 1)[1]
    assert process.lives(of(other, started=started)) is (False if part == 2 and in_no_container() else None)


def in_no_container() -> bool:
    return parts()[3] == process._NO_CONTAINER and bool(parts()[1])


def test_what_ran_before_a_machine_was_started_again_is_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_now(*machine: str) -> None:
        monkeypatch.setattr(process, "_machine", lambda: "/".join(machine))

    before = "north/installation/boot-1/4026531836:77:5"
    is_now("north", "installation", "boot-2", "4026531836")
    assert process.died(before)
    # Neither of containers, nor without an id, nor on another installation.
    is_now("north", "installation", "boot-2", "4026532999")
    assert process.lives(before) is None
    assert process.lives("north/installation/boot-1/4026532999:77:5") is None
    is_now("north", "", "boot-2", "4026531836")
    assert process.lives("north//boot-1/4026531836:77:5") is None
    is_now("north", "another", "boot-2", "4026531836")
    assert process.lives(before) is None


@needs_root
def test_containers_with_one_host_name_do_not_take_each_other_for_dead() -> None:
    """The writer of one container is a process number that the other one does not have, or has otherwise."""
    with container("from lindley import process; print(process.describe())") as writer:
        host, _, _ = writer.rsplit(":", 2)
        assert host.startswith(f"{socket.gethostname()}/")
        assert process.lives(writer) is None
        with container(f"from lindley import process; print(process.lives({writer!r}))") as found:
            assert found == "None"


def test_a_run_of_a_machine_that_cannot_be_asked_is_dead_after_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = MlflowLedger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(process, "describe", lambda: "elsewhere/a/b/c:7:7")
        theirs = ledger.open_run("coins", Run(name="theirs"))
    mine = ledger.open_run("coins", Run(name="mine"))
    assert ledger.dead_runs("coins") == []
    now = time.time
    for hours, dead in ((1, []), (7, [theirs])):
        with monkeypatch.context() as later:
            later.setattr(store.time, "time", lambda hours=hours: now() + hours * 3_600)
            assert ledger.dead_runs("coins") == dead
    # One that was taken for dead in the middle of an upload gets its state all the same.
    ledger.close_run(theirs, RunStatus.KILLED, Status.ABANDONED)
    ledger.close_run(theirs, RunStatus.FINISHED, Status.ACCEPTED)
    state = ledger.run_state(theirs)
    assert state is not None
    assert (state.status, state.tags["lindley.state"]) == (RunStatus.FINISHED, Status.ACCEPTED)
    assert MlflowClient(ledger.uri).get_run(mine).info.status == "RUNNING"
