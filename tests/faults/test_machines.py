"""Two machines that write, and files and folders of other owners: nothing is lost, doubled or stuck.

Real users and real permissions: skipped, with the reason, where this process is not root.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from lindley.ledger.mlflow import store
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import complete
from lindley.verification.gather import verify_chain
from tests.faults.assessing import Row, assess
from tests.faults.machines import Machine, finished, made
from tests.faults.writers import Place, Work, Writer
from tests.support import servers

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]


@contextmanager
def machines(*names: str, uri: str = "") -> Iterator[list[Machine]]:
    """Make machines and remove their folders afterwards."""
    found = made(list(names), uri)
    try:
        yield found
    finally:
        shutil.rmtree(found[0].root.parent)


def ready(machine: Machine, chain: str, numbers: range) -> Place:
    """Declare a chain on a machine and let files land there, which belong to its user."""
    place = machine.place(chain)
    place.prepare()
    for number in numbers:
        place.land(number)
    machine.own()
    return place


# -- two machines ---------------------------------------------------------------------------------------


def test_two_machines_that_write_to_one_server_make_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users, host names, process ids and folders are their own; one is killed, and sweeps afterwards."""
    uri, server = servers.mlflow_server(tmp_path)
    with server.running(), machines("north", "south", uri=uri) as (north, south):
        places = [ready(north, "coins", range(4)), ready(south, "coins", range(4, 8))]
        running = north.start("coins", Work(failpoint="uploaded", armed_from=1)), south.start("coins")
        _, err = running[0].communicate(timeout=600)
        assert running[0].returncode == 128 + signal.SIGKILL, err[-3000:]
        assert set(finished(running[1])["became"].values()) == {"accepted"}
        swept = north.take("coins")["became"]
        assert list(swept.values()) == ["accepted"] * 3, swept
        # A container that was replaced cannot know whether a process of the one before is dead, nor can any
        # other machine: its run is closed when it has been open for hours.
        chain, held = places[0].ledger(), find_chain(places[0].ledger(), "coins")
        complete(chain, "coins", held)
        row = Row("machines", "two, one killed", runs=1)
        assess(places[0], range(8), row, [place.workspace for place in places])
        assert (row.lost, row.doubled, row.forked, row.undetected) == (0, 0, 0, 1), row
        monkeypatch.setattr(store, "_DEAD_AFTER", 0)
        complete(chain, "coins", held)
        row = Row("machines", "two, one killed", runs=1)
        assess(places[0], range(8), row, [place.workspace for place in places])
        assert row.ok, row


# -- other owners ---------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[Machine, Place, Machine]]:
    """The user whose workspace it is, a chain there with two files that landed, and another user."""
    with machines("north", "south") as (north, south):
        yield north, ready(north, "coins", range(2)), south


def chain_of(place: Place) -> list[str]:
    """Verify the chain and return the files that it counts, in order."""
    ledger = MlflowLedger(place.uri, place.root)
    report = verify_chain(ledger, place.chain)
    assert not report.findings
    return [str(line["origin"]) for line in report.links]


def landing(place: Place) -> Path:
    return place.workspace.landing / place.chain


def test_a_file_of_another_owner_is_taken_or_waited_for(pair: tuple[Machine, Place, Machine]) -> None:
    north, place, south = pair
    first, second = sorted(landing(place).iterdir())
    south.own(first)  # readable for all, as most files are
    south.own(second)
    second.chmod(0o600)
    other = ready(north, "dice", range(1))
    for path in (first, second):
        south.own(path)
    became = north.take("coins")["became"]
    assert became[first.name] == "accepted"
    assert became[second.name].startswith("failed: ")
    assert "Permission denied" in became[second.name]
    assert north.take("dice")["became"] == {"dice-000.csv": "accepted"}  # another chain does not wait
    second.chmod(0o644)
    assert north.take("coins")["became"] == {second.name: "accepted"}
    assert chain_of(place) == [first.name, second.name]
    assert chain_of(other) == ["dice-000.csv"]
    assert list(landing(place).iterdir()) == []


@pytest.mark.parametrize("how", ["a folder of another owner", "a sticky folder", "mounted read-only"])
def test_a_landing_folder_that_cannot_be_written_holds_up_nothing(
    pair: tuple[Machine, Place, Machine], how: str
) -> None:
    north, place, south = pair
    folder, prepare = landing(place), ""
    (folder / "coins-0005.csv").write_text("id,k\n1,2\n")  # at fault, and between the others
    if how == "mounted read-only":
        north.own(folder)
        prepare = f"mount --bind -o ro {folder} {folder}"
    else:
        south.own(folder)
        folder.chmod(0o755 if how == "a folder of another owner" else 0o1777)
    names = sorted(path.name for path in folder.iterdir())
    for expected in ("accepted", "unchanged"):
        found = north.take("coins", prepare=prepare)
        became = found["became"]
        assert sorted(became) == names, became
        good = [became[name] for name in names if name != "coins-0005.csv"]
        assert good == [expected] * 2, became
        assert became["coins-0005.csv"] == "refused"
        assert any("cannot be removed from the landing folder" in text for text in found["said"])
    assert sorted(path.name for path in folder.iterdir()) == names
    assert len(list((place.workspace.store / "coins").iterdir())) == 2
    # Once it can be written the files go where they belong.
    folder.chmod(0o755)
    north.own()
    assert set(north.take("coins")["became"].values()) == {"unchanged", "refused"}
    assert list(folder.iterdir()) == []
    assert len(list((place.workspace.store / "coins").iterdir())) == 2
    assert chain_of(place) == ["coins-000.csv", "coins-001.csv"]


# -- a locked database ------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", ["files-written", "uploaded", "versioned"])
def test_a_locked_database_delays_an_update_and_loses_nothing(tmp_path: Path, at: str) -> None:
    place = Place(tmp_path, f"sqlite:///{tmp_path / 'mlflow.db'}")
    place.prepare()
    assert Writer(place, [place.land(0)]).done() is not None
    writer = Writer(place, [place.land(1), place.land(2)], Work(pause=at))
    writer.paused()
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as held:
        held.execute("begin exclusive")
        writer.go_on()
        assert not writer.pipe.poll(20)  # longer than SQLite waits
        held.execute("rollback")
    done = writer.done()
    assert done is not None
    # An attempt that could not even be closed is marked by the next writer.
    assert Writer(place, [place.land(3)]).done() is not None
    row = Row("lock", at, runs=1)
    assess(place, range(4), row)
    assert row.ok, (row, done)
