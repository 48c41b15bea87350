"""The flow `sweep` on a real Prefect server, with a ledger in memory and no sampler."""

from __future__ import annotations

import errno
import json
import os
from contextlib import contextmanager
from typing import Any

import pytest
from prefect.client.schemas.objects import State

from flows.sequences import files
from flows.sweep import Swept, sweep
from lindley.errors import FitFailed, UnknownChain
from lindley.ledger.history import history
from tests.support import fakes
from tests.support.flow_runs import artifacts

pytestmark = pytest.mark.usefixtures("prefect_server")


@pytest.fixture(autouse=True)
def in_memory(monkeypatch: pytest.MonkeyPatch, ledger, fits, workspace) -> None:
    monkeypatch.setattr("flows.steps.open_ledger", lambda _: ledger)


def swept(chain: str | None = None) -> tuple[State[Any], Swept]:
    state = sweep(chain, return_state=True)
    return state, state.result(raise_on_failure=False)


def statuses(done: Swept) -> dict[str, str]:
    return {row["file"]: row["status"] for row in done.rows}


def test_a_sweep_takes_everything_oldest_first(workspace, ledger, land):
    fakes.declare(workspace.models, "dice")
    land("b.csv", 5, minutes=2)
    land("a.csv", 1, minutes=3)
    land("x.csv", 1, chain="dice")
    state, _ = swept()
    assert state.is_completed()
    assert state.message == "3 accepted"
    assert [view.origin for view in history(ledger, "coins")] == ["a.csv", "b.csv"]
    assert len(history(ledger, "dice")) == 1
    assert set(artifacts(state)) == {"sweep-summary", "sweep-files"}
    assert list(workspace.landing.glob("*/*")) == []


def test_a_sweep_waits_for_a_busy_chain_when_the_others_are_done(workspace, land, monkeypatch):
    fakes.declare(workspace.models, "dice")
    land("a.csv")
    land("x.csv", chain="dice")
    waits: list[tuple[str, float]] = []

    @contextmanager
    def turn(_, chain, seconds):
        waits.append((chain, seconds))
        yield chain != "coins"

    monkeypatch.setattr("flows.sequences.files.turn", turn)
    _, done = swept()
    assert waits == [("coins", 0), ("dice", 0), ("coins", files.TURN_SECONDS)]
    assert [row["file"] for row in done.rows] == ["x.csv", "a.csv"]


def test_a_sweep_with_nothing_to_do_says_so_and_leaves_nothing():
    state, done = swept()
    assert state.message == "nothing in the landing folder"
    assert done.rows == []
    assert artifacts(state) == {}


def test_a_sweep_of_one_chain_leaves_the_others(workspace, land):
    fakes.declare(workspace.models, "dice")
    land("a.csv")
    kept = land("x.csv", chain="dice")
    _, done = swept("coins")
    assert statuses(done) == {"a.csv": "accepted"}
    assert kept.exists()


def test_a_file_at_fault_does_not_stop_its_chain(workspace, land):
    land("a.csv", text="id,k,n\n1,3,ten\n", minutes=3)
    land("b.csv", minutes=2)
    state, done = swept()
    assert statuses(done) == {"a.csv": "rejected", "b.csv": "accepted"}
    assert state.is_completed()


def test_any_other_failure_stops_its_chain_and_no_other(workspace, ledger, land, fits):
    fakes.declare(workspace.models, "dice")
    land("a.csv", minutes=3, chain="coins")
    later = land("b.csv", 5, minutes=2)
    land("x.csv", chain="dice")

    class Selective(FitFailed):
        pass

    def during() -> None:
        if fits.plans[-1].declaration.name == "coins":
            raise Selective("Only coins fails")

    fits.during = during
    state, done = swept()
    assert state.is_failed()
    assert statuses(done) == {"a.csv": "failed", "x.csv": "accepted"}
    assert set(done.failed) == {"coins"}
    assert later.exists()
    assert "coins" in artifacts(state)["sweep-summary"]["data"]


def test_an_unexpected_error_stops_its_chain_and_no_other(workspace, land, fits):
    fakes.declare(workspace.models, "dice")
    land("a.csv")
    land("x.csv", chain="dice")

    def during() -> None:
        if fits.plans[-1].declaration.name == "coins":
            raise OSError(errno.ENOSPC, "No space left on device")

    fits.during = during
    state, done = swept()
    assert state.is_failed()
    assert statuses(done) == {"a.csv": "failed", "x.csv": "accepted"}
    assert "No space left on device" in done.failed["coins"].found
    assert json.loads(json.dumps(done.as_dict()))["failed"]["coins"]["error"] == "Unexpected"


def test_a_folder_that_cannot_be_listed_stops_its_chain_and_no_other(workspace, land, monkeypatch):
    fakes.declare(workspace.models, "dice")
    land("a.csv")
    land("x.csv", chain="dice")
    closed, scandir = {workspace.landing / "coins"}, os.scandir

    def scan(path="."):
        if path in closed:
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("lindley.arrivals.landing.os.scandir", scan)
    state, done = swept()
    assert state.is_failed()
    assert statuses(done) == {"coins": "ignored", "x.csv": "accepted"}
    assert "Permission denied" in str(done.failed["coins"])
    closed.add(workspace.landing)
    assert "Permission denied" in (sweep(return_state=True).message or "")


def test_an_undeclared_chain_is_reported_and_its_files_stay(land):
    kept = land("x.csv", chain="dice")
    land("a.csv")
    state, done = swept()
    # It fails no sweep, which would fail every 15 minutes for ever, unless it is asked for.
    assert state.is_completed()
    assert state.message == "1 undeclared; 1 accepted"
    assert statuses(done) == {"x.csv": "undeclared", "a.csv": "accepted"}
    assert kept.exists()
    state, done = swept("dice")
    assert state.is_failed()
    assert isinstance(done.failed["dice"], UnknownChain)


def test_ignored_files_are_listed(workspace, land):
    land("a.csv")
    (workspace.landing / "stray.csv").write_text("id\n")
    _, done = swept()
    assert statuses(done) == {"a.csv": "accepted", "stray.csv": "ignored"}


def test_the_results_are_json(land):
    land("a.csv")
    land("x.csv", chain="dice")
    _, done = swept("dice")
    assert json.loads(json.dumps(done.as_dict()))["failed"]["dice"]["error"] == "UnknownChain"


def test_no_name_stops_a_sweep_or_another_chain(workspace, ledger, land):
    fakes.declare(workspace.models, "dice")
    land("good.csv", minutes=1)
    land("x.csv", chain="dice", minutes=1)
    folder = workspace.landing / "coins"
    bad = folder / "bad\udcff.csv"
    bad.write_text("id,k,n\n1,3,10\n")
    os.utime(bad, (1, 1))
    (folder / "link\udcfe.csv").symlink_to(bad)
    (folder / "folder\udcff").mkdir()
    (workspace.landing / "folder\udcff").mkdir()
    state, done = swept()
    assert state.is_completed()
    assert statuses(done)["good.csv"] == statuses(done)["x.csv"] == "accepted"
    assert [row["status"] for row in done.rows].count("ignored") == 3
    assert (workspace.rejected / "coins" / "bad_xff.csv").exists()
    assert set(artifacts(state)) == {"sweep-summary", "sweep-files"}
