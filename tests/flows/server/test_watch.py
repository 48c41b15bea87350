"""The watcher: one event per complete file, none lost for good."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

import pytest

from flows.server import watch
from flows.server.watch import REMIND_SECONDS, NotDelivered, Watcher
from lindley.arrivals import landing
from lindley.arrivals.landing import Arrival
from tests.e2e.machine import until
from tests.support import fakes


@dataclass
class Server:
    """Stands for the Prefect server."""

    up: bool = True
    got: list[str] = field(default_factory=list)

    def __call__(self, arrival: Arrival) -> None:
        if not self.up:
            raise NotDelivered("no answer")
        self.got.append(f"{arrival.chain}/{arrival.path.name}")


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def watcher(workspace, server, clock, said) -> Watcher:
    return Watcher(
        workspace, server, lambda arrival: "unfinished" not in arrival.path.name, clock, said.append
    )


def test_what_is_there_at_the_start_is_announced_oldest_first(watcher, server, land):
    land("b.csv", minutes=2)
    land("a.csv", minutes=1)
    land("x.csv", minutes=3, chain="dice")
    watcher.look()
    assert server.got == ["dice/x.csv", "coins/b.csv", "coins/a.csv"]


def test_a_file_is_announced_once(watcher, server, land, clock):
    land("a.csv")
    watcher.look()
    clock.now += REMIND_SECONDS - 1
    watcher.look()
    assert server.got == ["coins/a.csv"]


def test_a_file_that_stays_is_announced_again(watcher, server, land, clock):
    land("a.csv")
    watcher.look()
    clock.now += REMIND_SECONDS
    watcher.look()
    watcher.look()
    assert server.got == ["coins/a.csv"] * 2


def test_a_file_of_an_undeclared_chain_is_announced_again_when_it_is_declared(
    watcher, server, land, clock, workspace
):
    """Each announcement would be one more run that fails."""
    land("x.csv", chain="dice")
    watcher.look()
    clock.now += REMIND_SECONDS
    watcher.look()
    assert server.got == ["dice/x.csv"]
    fakes.declare(workspace.models, "dice")
    watcher.look()
    assert server.got == ["dice/x.csv"] * 2


def test_only_the_oldest_of_a_chain_is_announced_again(watcher, server, land, clock, workspace):
    """The others wait: a run for each of them would fit the oldest again."""
    fakes.declare(workspace.models, "dice")
    oldest = land("a.csv", minutes=4)
    land("unfinished.csv", minutes=5)
    land("b.csv", minutes=3)
    land("c.csv", minutes=2)
    land("x.csv", minutes=1, chain="dice")
    watcher.look()
    first = ["coins/a.csv", "coins/b.csv", "coins/c.csv", "dice/x.csv"]
    assert server.got == first
    clock.now += REMIND_SECONDS
    for _ in range(2):
        watcher.look()
    assert server.got == [*first, "coins/a.csv", "dice/x.csv"]
    land("d.csv", minutes=0.5)
    oldest.unlink()
    watcher.look()
    assert server.got[6:] == ["coins/b.csv", "coins/d.csv"]
    clock.now += REMIND_SECONDS - 1
    watcher.look()
    assert len(server.got) == 8


def test_a_file_that_changed_is_another_one(watcher, server, land):
    land("a.csv", minutes=3)
    watcher.look()
    land("a.csv", minutes=2)
    watcher.look()
    assert server.got == ["coins/a.csv"] * 2


def test_a_file_that_comes_back_is_announced_again(watcher, server, land):
    path = land("a.csv", minutes=3)
    watcher.look()
    path.unlink()
    watcher.look()
    land("a.csv", minutes=3)
    watcher.look()
    assert len(server.got) == 2


def test_an_unfinished_file_waits(watcher, server, land):
    path = land("unfinished.csv")
    watcher.look()
    assert server.got == []
    path.rename(path.with_name("a.csv"))
    watcher.look()
    assert server.got == ["coins/a.csv"]


def test_a_file_that_cannot_be_read_does_not_block_the_others(workspace, server, clock, said, land):
    closed = {"a.parquet"}

    def finished(arrival: Arrival) -> bool:
        if arrival.path.name in closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return True

    watcher = Watcher(workspace, server, finished, clock, said.append)
    land("a.parquet", minutes=2)
    land("b.csv", minutes=1)
    land("x.csv", minutes=1, chain="dice")
    watcher.look()
    watcher.look()
    assert server.got == ["coins/b.csv", "dice/x.csv"]
    assert sum("a.parquet" in sentence for sentence in said) == 1
    assert "Permission denied" in said[-1]
    closed.clear()
    watcher.look()
    assert server.got[-1] == "coins/a.parquet"


def test_a_folder_that_cannot_be_listed_does_not_block_the_others(
    watcher, server, said, land, monkeypatch, workspace
):
    land("a.csv")
    land("x.csv", chain="dice")
    closed, scandir = {workspace.landing / "coins"}, os.scandir

    def scan(path):
        if path in closed:
            raise OSError(errno.ESTALE, "Stale file handle")
        return scandir(path)

    monkeypatch.setattr("lindley.arrivals.landing.os.scandir", scan)
    watcher.look()
    watcher.look()
    assert server.got == ["dice/x.csv"]
    assert sum("Stale file handle" in sentence for sentence in said) == 1
    closed.add(workspace.landing)
    watcher.look()
    watcher.look()
    assert sum("Stale file handle" in sentence for sentence in said) == 2
    closed.clear()
    watcher.look()
    assert server.got[-1] == "coins/a.csv"


def test_events_that_a_server_missed_are_sent_when_it_is_up(watcher, server, land, said):
    server.up = False
    land("a.csv", minutes=2)
    land("b.csv", minutes=1)
    watcher.look()
    watcher.look()
    assert len(said) == 1
    assert "no answer" in said[0]
    server.up = True
    watcher.look()
    assert server.got == ["coins/a.csv", "coins/b.csv"]


def test_a_server_that_does_not_answer_is_detected_at_once(monkeypatch, land, workspace):
    from prefect.settings import PREFECT_API_URL, temporary_settings

    path = land("a.csv")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        before = time.monotonic()
        with pytest.raises(NotDelivered):
            watch.announce(Arrival("coins", path, 1, 1))
        assert time.monotonic() - before < 10


@pytest.mark.usefixtures("prefect_server")
def test_the_event_contains_the_parameters_of_the_deployment(land):
    from prefect.client.orchestration import get_client

    path = land("a.csv")
    watch.announce(Arrival("coins", path, 44, 1))
    wanted = {"filter": {"event": {"name": [watch.EVENT]}, "resource": {"id": ["lindley.landing.coins"]}}}
    deadline = time.monotonic() + 30
    events: list[dict] = []
    while not events and time.monotonic() < deadline:
        with get_client(sync_client=True) as client:
            events = client.request("POST", "/events/filter", json=wanted).json()["events"]
        time.sleep(0.2)
    assert [event["payload"] for event in events] == [{"chain": "coins", "file": "a.csv", "size": 44}]


def test_the_watcher_detects_changes_and_stops_on_request(monkeypatch, workspace, land, server):
    monkeypatch.setattr(watch, "announce", server)
    stop = threading.Event()
    thread = threading.Thread(target=watch.watch, args=(workspace, stop))
    thread.start()
    try:
        time.sleep(0.5)
        land("a.csv")
        deadline = time.monotonic() + 20
        while not server.got and time.monotonic() < deadline:
            time.sleep(0.05)
        assert server.got == ["coins/a.csv"]
    finally:
        stop.set()
        thread.join(timeout=10)
    assert not thread.is_alive()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_cleanly(workspace, number):
    environment = os.environ | {"PREFECT_API_URL": "http://127.0.0.1:9/api"}
    command = [sys.executable, "-m", "flows.cli", "watch", "--json"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "landing" in process.stdout.readline() + process.stdout.readline()
        time.sleep(0.5)
        process.send_signal(number)
        assert process.wait(timeout=30) == 0


#: Names that a file system takes and that are awkward elsewhere; the first three are not UTF-8.
NAMES = [
    b"bad\xff.csv", b"\xed\xa0\x80.csv", b"\x80\xfe\xff", b"new\nline.csv", b"\x1b[2J\x07.csv",
    b"{{ event.id }}.csv", b"-rf.csv", b"%s%n.csv", b"\xe2\x80\xaegnp.csv", b"$(touch x).csv",
    b"a" * 251 + b".csv", b"'\"<b>.csv",
]  # fmt: skip


def test_no_name_of_a_file_stops_the_watcher_or_another_file(watcher, server, workspace, said):
    folder = workspace.landing / "coins"
    folder.mkdir(parents=True)
    for name in [*NAMES, b"good.csv"]:
        (folder / os.fsdecode(name)).write_text("id,k,n\n1,3,10\n")
    watcher.look()
    assert "coins/good.csv" in server.got
    assert len(server.got) == len(NAMES) - 2
    assert all(name.encode() for name in server.got)
    rejected = sorted(path.name for path in (workspace.rejected / "coins").iterdir())
    assert len([name for name in rejected if name.endswith(".reason.json")]) == 3
    assert "bad_xff.csv" in rejected
    assert all(sentence.isprintable() for sentence in said)


def test_the_watch_goes_on_after_a_name_that_cannot_be_watched(workspace, monkeypatch):
    """watchfiles itself fails with such a name, and ended `lindley up`."""
    got: list[str] = []
    monkeypatch.setattr(watch, "announce", lambda arrival: got.append(arrival.path.name))
    monkeypatch.setattr(watch, "LIST_SECONDS", 0.2)
    monkeypatch.setattr(landing, "is_complete", lambda *_, **__: True)
    folder, stop = workspace.landing / "coins", threading.Event()
    folder.mkdir(parents=True)
    thread = threading.Thread(target=watch.watch, args=(workspace, stop))
    thread.start()
    try:
        time.sleep(1)
        (folder / "bad\udcff.csv").write_text("id,k,n\n")
        rejected = workspace.rejected / "coins" / "bad_xff.csv"
        until("the rejection", rejected.exists, 30)
        (folder / "good.csv").write_text("id,k,n\n")
        until("the event", lambda: got, 30)
        assert thread.is_alive()
        assert got == ["good.csv"]
    finally:
        stop.set()
        thread.join()


def test_no_file_of_a_busy_chain_is_announced_again(watcher, server, land, clock):
    land("a.csv", minutes=3)
    land("b.csv", minutes=2)
    watcher.look()
    watcher.busy = lambda chain: chain == "coins"
    for _ in range(5):
        clock.now += REMIND_SECONDS
        watcher.look()
    assert server.got == ["coins/a.csv", "coins/b.csv"]
    watcher.busy = lambda _: False
    watcher.look()
    assert server.got[2:] == ["coins/a.csv"]
