"""Children that live and die together."""

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

from flows.server.processes import Family, end_tree

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
def family(tmp_path: Path) -> Iterator[Family]:
    made = Family(tmp_path / ".lindley")
    yield made
    made.stop()


def output(child, seconds: float = 20) -> str:
    deadline = time.monotonic() + seconds
    while not child.log.read_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return child.log.read_text()


def test_children_write_logs_and_end_with_the_family(family, tmp_path):
    child = family.start("one", SLEEP, os.environ, tmp_path)
    assert output(child) == "up\n"
    assert child.last_lines() == "up"
    assert family.dead() is None
    family.stop()
    assert not psutil.pid_exists(child.process.pid)
    assert not (tmp_path / ".lindley" / "processes.json").exists()


def test_the_log_of_the_last_time_is_kept(family, tmp_path):
    output(family.start("one", SLEEP, os.environ, tmp_path))
    family.stop()
    family.start("one", SLEEP, os.environ, tmp_path)
    assert (tmp_path / ".lindley" / "logs" / "one.log.1").read_text() == "up\n"


def test_a_child_that_ends_by_itself_is_noticed(family, tmp_path):
    family.start("one", SLEEP, os.environ, tmp_path)
    short = family.start("two", [sys.executable, "-c", "raise SystemExit(3)"], os.environ, tmp_path)
    short.process.wait()
    assert family.dead() is short


def test_what_a_child_started_in_another_session_ends_too(family, tmp_path):
    child = family.start("one", [sys.executable, "-c", PARENT], os.environ, tmp_path)
    grandchild = psutil.Process(int(output(child)))
    family.stop()
    assert not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE


def test_one_that_ignores_the_signal_is_killed(tmp_path, family):
    child = family.start("one", [sys.executable, "-c", STUBBORN], os.environ, tmp_path)
    assert output(child) == "up\n"
    end_tree(child.process.pid, grace=0.3)
    assert not psutil.pid_exists(child.process.pid)


def test_one_child_can_end_alone(family, tmp_path):
    one = family.start("one", SLEEP, os.environ, tmp_path)
    two = family.start("two", SLEEP, os.environ, tmp_path)
    family.end("one")
    family.end("three")
    assert not psutil.pid_exists(one.process.pid)
    assert family.children == [two]
    assert family.dead() is None


def test_ending_what_is_gone_is_nothing(family, tmp_path):
    child = family.start("one", [sys.executable, "-c", ""], os.environ, tmp_path)
    child.process.wait()
    end_tree(child.process.pid)


def test_what_a_killed_parent_left_is_ended(family, tmp_path):
    child = family.start("one", SLEEP, os.environ, tmp_path)
    output(child)
    next_one = Family(family.folder)
    assert next_one.end_leftovers() == ["one"]
    assert not psutil.pid_exists(child.process.pid)
    assert next_one.end_leftovers() == []


def test_a_number_that_is_somebody_elses_by_now_is_left_alone(family, tmp_path):
    child = family.start("one", SLEEP, os.environ, tmp_path)
    path = tmp_path / ".lindley" / "processes.json"
    entries = json.loads(path.read_text())
    entries[0]["started"] -= 60
    path.write_text(json.dumps(entries))
    assert Family(family.folder).end_leftovers() == []
    assert child.process.poll() is None


def test_what_runs_for_the_original_of_a_copied_folder_is_left_alone(family, tmp_path):
    child = family.start("one", SLEEP, os.environ, tmp_path)
    shutil.copytree(family.folder, tmp_path / "copy" / ".lindley")
    assert Family(tmp_path / "copy" / ".lindley").end_leftovers() == []
    assert child.process.poll() is None


@pytest.mark.parametrize("text", ["", "{", "[{}]"])
def test_a_damaged_list_is_none(family, text):
    family.folder.mkdir()
    (family.folder / "processes.json").write_text(text)
    assert family.end_leftovers() == []
