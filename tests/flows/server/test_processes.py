"""Child processes that start and end together."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows.server.processes import Supervisor, end_tree

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(120)"]
#: Starts a child of its own in a session of its own, as a worker does with flow runs.
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(120)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(120)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / ".lindley")
    yield made
    made.stop()


def output(child, seconds: float = 20) -> str:
    deadline = time.monotonic() + seconds
    while not child.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return child.log.read_text()


def test_children_write_logs_and_end_with_their_supervisor(supervisor, tmp_path):
    child = supervisor.start("one", SLEEP, os.environ, tmp_path)
    assert output(child) == "up\n"
    assert child.last_lines() == "up"
    assert supervisor.dead() is None
    supervisor.stop()
    assert not psutil.pid_exists(child.process.pid)
    assert not (tmp_path / ".lindley" / "processes.json").exists()


def test_the_previous_log_is_kept(supervisor, tmp_path):
    output(supervisor.start("one", SLEEP, os.environ, tmp_path))
    supervisor.stop()
    supervisor.start("one", SLEEP, os.environ, tmp_path)
    assert (tmp_path / ".lindley" / "logs" / "one.log.1").read_text() == "up\n"


def test_a_child_that_ends_by_itself_is_detected(supervisor, tmp_path):
    supervisor.start("one", SLEEP, os.environ, tmp_path)
    short = supervisor.start("two", [sys.executable, "-c", "raise SystemExit(3)"], os.environ, tmp_path)
    short.process.wait()
    assert supervisor.dead() is short


def test_a_grandchild_in_another_session_ends_too(supervisor, tmp_path):
    child = supervisor.start("one", [sys.executable, "-c", PARENT], os.environ, tmp_path)
    grandchild = psutil.Process(int(output(child)))
    supervisor.stop()
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_a_child_that_ignores_the_signal_is_killed(tmp_path, supervisor):
    child = supervisor.start("one", [sys.executable, "-c", STUBBORN], os.environ, tmp_path)
    assert output(child) == "up\n"
    end_tree(child.process.pid, grace=0.3)
    assert not psutil.pid_exists(child.process.pid)


def test_one_child_can_end_alone(supervisor, tmp_path):
    one = supervisor.start("one", SLEEP, os.environ, tmp_path)
    two = supervisor.start("two", SLEEP, os.environ, tmp_path)
    supervisor.end("one", "three")
    assert not psutil.pid_exists(one.process.pid)
    assert supervisor.children == [two]
    assert supervisor.dead() is None


def test_ending_a_process_that_has_ended_signals_no_process(supervisor, tmp_path, monkeypatch):
    child = supervisor.start("one", [sys.executable, "-c", ""], os.environ, tmp_path)
    supervisor.wait_for(child)
    signalled = []
    for name in ("terminate", "kill"):
        monkeypatch.setattr(psutil.Process, name, lambda process: signalled.append(process.pid))
    end_tree(child.process.pid)
    assert signalled == []


@pytest.mark.parametrize("code", [0, 3])
def test_a_short_command_runs_to_its_end(supervisor, tmp_path, code):
    program = f"print('done'); raise SystemExit({code})"
    child = supervisor.start("one", [sys.executable, "-c", program], os.environ, tmp_path)
    assert (supervisor.wait_for(child), child.last_lines()) == (code, "done")
    assert supervisor.children == []


def test_children_of_a_killed_parent_are_ended(supervisor, tmp_path):
    child = supervisor.start("one", SLEEP, os.environ, tmp_path)
    output(child)
    next_one = Supervisor(supervisor.folder)
    assert next_one.end_leftovers() == ["one"]
    assert not psutil.pid_exists(child.process.pid)
    assert next_one.end_leftovers() == []


def test_another_process_with_the_id_of_a_listed_one_is_left_alone(supervisor, tmp_path):
    child = supervisor.start("one", SLEEP, os.environ, tmp_path)
    path = tmp_path / ".lindley" / "processes.json"
    entries = json.loads(path.read_text())
    host, pid, started = entries[0]["process"].rsplit(":", 2)
    entries[0]["process"] = f"{host}:{pid}:{int(started) - 60}"
    path.write_text(json.dumps(entries))
    assert Supervisor(supervisor.folder).end_leftovers() == []
    assert child.process.poll() is None


def test_processes_of_the_original_of_a_copied_folder_are_left_alone(supervisor, tmp_path):
    child = supervisor.start("one", SLEEP, os.environ, tmp_path)
    shutil.copytree(supervisor.folder, tmp_path / "copy" / ".lindley")
    assert Supervisor(tmp_path / "copy" / ".lindley").end_leftovers() == []
    assert child.process.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[{}]"])
def test_a_damaged_list_is_ignored(supervisor, text):
    supervisor.folder.mkdir()
    (supervisor.folder / "processes.json").write_text(text)
    assert supervisor.end_leftovers() == []
