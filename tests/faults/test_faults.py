"""Races and kills of real processes: a quick part of what `tests.faults.run` does, and that it can fail."""

from __future__ import annotations

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from flows.sequences.update import update_one
from lindley import failpoints
from lindley.errors import BatchRefused
from tests.faults import kills, loads, races
from tests.faults.assessing import Row, assess, read, replaced, write
from tests.faults.writers import Done, Place, Work, Writer, _steps, sweep


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """One embedded ledger for all tests, each with a chain of its own."""
    root = tmp_path_factory.mktemp("faults")
    return Place(root, f"sqlite:///{root / 'mlflow.db'}")


@pytest.mark.parametrize("name", failpoints.NAMES)
def test_a_writer_that_is_killed_loses_and_doubles_nothing(ground: Place, name: str) -> None:
    row = kills.kill(replace(ground, chain=f"kill-{name}"), name)
    assert row.ok, row


@pytest.mark.parametrize("name", kills.WINNER)
def test_a_rival_completes_the_work_of_a_killed_winner(ground: Place, name: str) -> None:
    row = kills.kill_winner(replace(ground, chain=f"winner-{name}"), name)
    assert row.ok, row


def test_writers_that_race_make_one_line(ground: Place) -> None:
    row, said = races.race(replace(ground, chain="race"), "sqlite", writers=3, each=1)
    assert row.ok, said


@pytest.mark.parametrize("jump", [pytest.param(loads.DAY, marks=pytest.mark.faults), -loads.DAY])
def test_a_clock_that_jumps_by_a_day_changes_nothing(ground: Place, jump: float) -> None:
    row = loads.clock(ground, jump)
    assert row.ok, row


def test_many_chains_at_once_are_each_one_line(ground: Place) -> None:
    row = loads.chains(ground, 3)
    assert row.ok, row


def test_an_update_reaches_every_fail_point(ground: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place = replace(ground, chain="reached")
    place.prepare()
    reached: Counter[str] = Counter()
    monkeypatch.setattr(failpoints, "reach", lambda name: reached.update([name]))
    steps = _steps(place, Work(), Done())
    update_one(steps, place.workspace, place.chain, place.land(0))
    update_one(steps, place.workspace, place.chain, place.write(ground.root / "elsewhere.csv", 1))
    bad = place.land(2)
    bad.write_text("id,k\n1,2\n")
    with pytest.raises(BatchRefused):
        update_one(steps, place.workspace, place.chain, bad)
    assert set(reached) == set(failpoints.NAMES)


# -- what must be seen ------------------------------------------------------------------------------


def test_a_kill_without_a_sweep_is_seen(ground: Place) -> None:
    place = replace(ground, chain="unswept")
    place.prepare()
    paths = [place.land(0), place.land(1)]
    assert Writer(place, paths, Work(failpoint="uploaded", armed_from=1)).done() is None
    row = Row("kill", "unswept", runs=1)
    assess(place, [0, 1], row)
    assert (row.lost, row.doubled, row.forked) == (1, 0, 0)
    assert row.undetected == 3  # an open run, a file not archived, a file still waiting
    assert not row.ok
    sweep(place)
    row = Row("kill", "swept", runs=1)
    links = assess(place, [0], row)
    assert (row.lost, row.doubled) == (0, 1)  # one batch more than it was told of
    place.ledger().set_head_hint(place.chain, links[0].version.number)
    row = Row("kill", "alias", runs=1)
    assess(place, [0, 1], row)
    assert row.forked == 1


def test_runs_add_up_and_one_that_did_not_run_is_no_success(tmp_path: Path) -> None:
    total = Row("kill", "x")
    assert not total.ok
    total.add(Row("kill", "x", runs=1, seconds=2.0))
    total.add(Row("kill", "x", runs=1, lost=1, seconds=4.0))
    assert (total.runs, total.lost, total.seconds, total.ok) == (2, 1, 3.0, False)
    write([total], tmp_path / "results.csv")
    with (tmp_path / "results.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert line == {
        "test": "kill", "case": "x", "runs": "2", "lost": "1", "doubled": "0", "forked": "0",
        "undetected": "0", "seconds": "3.00",
    }  # fmt: skip
    assert read(tmp_path / "results.csv") == [total]


def test_what_was_not_run_again_stays_in_its_place(tmp_path: Path) -> None:
    assert read(tmp_path / "none.csv") == []
    one, two, again, new = Row("a", "x", 1), Row("b", "x", 1), Row("a", "x", 7), Row("c", "x", 1)
    assert replaced([one, two], [new, again]) == [again, two, new]
