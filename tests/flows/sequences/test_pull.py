"""Pulls of a chain of coins from a CSV file: what becomes links, what is named, what a killed pull leaves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flows.sequences.steps import Steps
from lindley.errors import (
    BatchRefused,
    DeclarationRefused,
    LindleyError,
    LostRace,
    RevisionRefused,
    SourceUnavailable,
)
from lindley.operations.pulls import plans
from lindley.workspace import Workspace
from tests.support import amendments, fakes
from tests.support.amendments import NAME, chain_of, counts, is_sound
from tests.support.fakes import MemoryLedger, coins
from tests.support.fits import Fits
from tests.support.forging import record_of
from tests.support.pulls import Place, place_on


@pytest.fixture
def place(steps: Steps, workspace: Workspace, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("lindley.arrivals.sources.places.is_complete", lambda *_, **__: True)
    monkeypatch.setattr(plans, "_together", lambda *_: True)
    return Place(steps, workspace, ledger)


def test_new_rows_become_a_batch_and_revised_ones_one_correction(place: Place) -> None:
    first = place.pull(dict.fromkeys(range(4), 3))
    assert (first.status, first.link, first.pulled["rows"]["new"]) == ("accepted", 1, 4)
    place.pull(dict.fromkeys(range(8), 3))
    place.pull(dict.fromkeys(range(12), 3))
    assert counts(place.ledger) == [1, 2, 3]
    made = place.pull(dict.fromkeys(range(14), 3) | {1: 5, 6: 7})
    assert made.pulled["links"] == [4, 5]
    assert (made.pulled["rows"]["revised"], made.pulled["rows"]["new"]) == (2, 2)
    assert "2 rows new, 2 rows revised" in made.message
    assert place.rows() == dict.fromkeys(range(14), 3) | {1: 5, 6: 7}
    correction, update = record_of(place.ledger, NAME, 4), record_of(place.ledger, NAME, 5)
    assert (correction["kind"], len(correction["retracted"]), correction["batch"]["rows"]) == (
        "correct",
        2,
        8,
    )
    changes = correction["batch"]["changes"]
    assert changes["revised"]["keys"] == [["1"], ["6"]]
    assert (changes["added"]["rows"], changes["removed"]["rows"]) == (0, 0)
    assert update["source"]["address"] == "rows.csv"
    assert [correction["source"]["complete"], update["source"]["complete"]] == [False, True]
    assert update["source"]["since"] == record_of(place.ledger, NAME, 3)["source"]["version"]
    assert is_sound(place.ledger)


def test_the_same_version_is_read_and_nothing_else(place: Place, fits: Fits) -> None:
    place.pull(dict.fromkeys(range(4), 3))
    before = len(fits.plans)
    assert place.pull().status == "unchanged"
    again = place.pull(again=True)
    assert (again.status, again.pulled["rows"]) == ("unchanged", dict.fromkeys(again.pulled["rows"], 0))
    assert len(fits.plans) == before


def test_pieces_of_split_become_batches(place: Place) -> None:
    place.declare(split=True)
    made = place.pull(dict.fromkeys(range(25), 3))
    assert made.pulled["links"] == [1, 2, 3]
    origins = [link.version.origin for link in chain_of(place.ledger).links]
    assert origins == ["ten-0", "ten-1", "ten-2"]
    place.pull(dict.fromkeys(range(31), 3))
    assert [link.version.rows for link in chain_of(place.ledger).links] == [10, 10, 5, 5, 1]
    assert is_sound(place.ledger)


def test_batches_that_do_not_add_up_are_corrected_one_by_one(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "_together", lambda *_: False)
    place.declare(split=True)
    place.pull(dict.fromkeys(range(25), 3))
    place.pull(dict.fromkeys(range(25), 3) | {1: 4, 11: 4})
    corrections = [record_of(place.ledger, NAME, number) for number in (4, 5)]
    assert [record["batch"]["rows"] for record in corrections] == [10, 10]
    assert [record["batch"]["origin"] for record in corrections] == ["ten-0", "ten-1"]
    assert is_sound(place.ledger)


def test_revisions_can_be_reported(place: Place) -> None:
    place.declare(', revisions="report"')
    place.pull({0: 3, 1: 3})
    made = place.pull({0: 4, 1: 3, 2: 3})
    assert (made.pulled["rows"]["revised"], made.pulled["links"]) == (1, [2])
    assert "keeps the rows as they were" in made.message
    assert place.rows() == {0: 3, 1: 3, 2: 3}


def test_revisions_can_be_refused(place: Place) -> None:
    place.declare(', revisions="refuse"')
    place.pull({0: 3, 1: 3})
    with pytest.raises(RevisionRefused, match=r"1 row of rows\.csv was revised.*id=0"):
        place.pull({0: 4, 1: 3, 2: 3})
    assert place.rows() == {0: 3, 1: 3}


def test_rows_that_are_gone_are_reported_or_taken_out(place: Place) -> None:
    rows = dict.fromkeys(range(4), 3)
    place.pull(rows)
    place.pull(rows | {10: 3, 11: 3})
    made = place.pull({0: 3, 1: 3, 2: 3})
    assert (made.status, made.pulled["rows"]["vanished"]) == ("unchanged", 3)
    assert "still count" in made.message
    place.declare(', vanished="retract"')
    place.pull({0: 3, 1: 3, 2: 5})
    assert place.rows() == {0: 3, 1: 3, 2: 5}
    changes = record_of(place.ledger, NAME, 3)["batch"]["changes"]
    assert [changes[name]["rows"] for name in ("revised", "added", "removed")] == [1, 0, 3]
    place.pull({0: 3, 1: 3, 2: 5, 20: 1})
    place.pull({0: 3, 1: 3, 2: 5})  # a whole batch is gone
    assert record_of(place.ledger, NAME, 5)["kind"] == "retract"
    assert record_of(place.ledger, NAME, 5)["source"]["address"] == "rows.csv"
    place.pull({0: 3, 1: 3, 2: 5, 20: 1})  # and comes again
    assert place.rows() == {0: 3, 1: 3, 2: 5, 20: 1}
    assert is_sound(place.ledger)


def test_what_a_person_retracted_stays_out(place: Place) -> None:
    place.pull({0: 3, 1: 3})
    place.pull({0: 3, 1: 3, 2: 9, 3: 9})
    amendments.retract(place.ledger, place.declaration, 2)
    made = place.pull({0: 3, 1: 3, 2: 9, 3: 9, 4: 3})
    assert made.pulled["rows"]["kept_out"] == 2
    assert place.rows() == {0: 3, 1: 3, 4: 3}
    place.pull({0: 3, 1: 3, 2: 4, 3: 9, 4: 3})  # one was mended at the source
    assert place.rows() == {0: 3, 1: 3, 2: 4, 4: 3}
    assert is_sound(place.ledger)


def test_a_killed_pull_is_continued(place: Place) -> None:
    """Whatever step fails, the next pull gives the same rows, and no batch is fitted twice."""
    place.declare(split=True)
    start, end = dict.fromkeys(range(20), 3), dict.fromkeys(range(45), 3) | {1: 5, 12: 6}
    place.pull(start)
    kept = place.ledger.clone()
    for step in ("pull", "fit", "log", "register"):
        for nth in range(1, 2 if step == "pull" else 4):
            ledger = kept.clone()
            broken = place_on(place, ledger, step, nth)
            with pytest.raises(KeyboardInterrupt):
                broken.pull(end)
            whole = place_on(place, ledger)
            whole.pull()
            assert whole.rows() == end
            assert len(chain_of(ledger).links) == 2 + 1 + 3
            assert nth > 1 or is_sound(ledger)
            assert whole.pull().status == "unchanged"


def test_a_quarantined_correction_is_tried_again_on_the_next_head(place: Place, fits: Fits) -> None:
    place.pull({0: 3, 1: 3})
    fits.passed = False
    made = place.pull({0: 4, 1: 3})
    assert (made.status, made.pulled["links"]) == ("quarantined", [])
    fits.passed = True
    assert place.pull().status == "quarantined"  # on this head it was tried
    made = place.pull({0: 4, 1: 3, 2: 3})
    assert place.rows() == {0: 3, 1: 3, 2: 3}
    assert record_of(place.ledger, NAME, made.version or 0)["source"]["complete"] is False
    place.pull()
    assert place.rows() == {0: 4, 1: 3, 2: 3}
    assert is_sound(place.ledger)


def test_a_quarantined_batch_waits_and_its_rows_are_not_pulled_twice(place: Place, fits: Fits) -> None:
    place.pull({0: 3, 1: 3})
    fits.passed = False
    place.pull({0: 3, 1: 3, 2: 3})
    fits.passed = True
    made = place.pull({0: 3, 1: 3, 2: 3})
    assert (made.status, made.pulled["rows"]["waiting"]) == ("quarantined", 1)
    made = place.pull({0: 3, 1: 3, 2: 3, 3: 3})
    assert (made.pulled["rows"]["new"], made.pulled["rows"]["waiting"]) == (1, 1)
    place.pull(again=True)  # nothing else is new, and the head has moved: it is offered again
    assert place.rows() == {0: 3, 1: 3, 2: 3, 3: 3}
    assert is_sound(place.ledger)


def test_another_writer_ends_the_pull(place: Place, fits: Fits) -> None:
    place.pull({0: 3, 1: 3})
    other = coins(place.declaration, 50)

    def during() -> None:
        fits.during = lambda: None
        fakes.append(place.ledger, place.declaration, other)

    fits.during = during
    with pytest.raises(LostRace, match="during the pull"):
        place.pull({0: 3, 1: 3, 2: 3})
    place.pull()
    assert counts(place.ledger) == [1, 2, 3]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("id,k,m\n0,3,10\n", "missing: 'n'; unexpected: 'm'"),
        ("id,k,n\n0,three,10\n", "Column 'k'|column 'k'"),
        ("id,k,n\n0,3,10\n0,4,10\n", "several values.*1 such keys, for example id=0"),
        ("id,k,n\n,3,10\n", "missing where the schema allows none"),
    ],
)
def test_a_source_that_does_not_fit_changes_nothing(place: Place, text: str, match: str) -> None:
    place.pull({5: 3})
    (place.workspace.root / "rows.csv").write_text(text)
    with pytest.raises(BatchRefused, match=match):
        place.pull()
    assert place.rows() == {5: 3}


def test_a_row_that_comes_twice_counts_once(place: Place) -> None:
    (place.workspace.root / "rows.csv").write_text("id,k,n\n0,3,10\n1,3,10\n0,3,10\n")
    made = place.pull()
    assert made.pulled["rows"]["repeated"] == 1
    assert place.rows() == {0: 3, 1: 3}


def test_a_chain_without_a_source_and_a_source_that_is_not_there(place: Place) -> None:
    with pytest.raises(SourceUnavailable, match=r"rows\.csv"):
        place.pull()
    fakes.declare(place.workspace.models)
    with pytest.raises(DeclarationRefused, match="has no source"):
        place.pull()
    with pytest.raises(LindleyError, match="revisions= one of"):
        place.declare(', revisions="maybe"')


def test_a_folder_is_a_snapshot_too(place: Place) -> None:
    folder = place.workspace.root / "rows.csv"
    (folder / "year=1").mkdir(parents=True)
    Path(folder / "a.csv").write_text("id,k,n\n0,3,10\n")
    Path(folder / "year=1" / "_SUCCESS").write_text("")
    Path(folder / "b.csv").write_text("id,k,n\n1,3,10\n")
    place.pull()
    assert place.rows() == {0: 3, 1: 3}
    assert len(record_of(place.ledger, NAME, 1)["source"]["version"]["sha256"]) == 64


def test_batches_become_one_only_where_a_record_states_that_their_rows_add_up(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    place.write({0: 3})
    os.utime(place.workspace.root / "rows.csv", (1, 1))
    place.pull()
    record, chain = record_of(place.ledger, NAME, 1), chain_of(place.ledger)
    for rows, together in (({"add_up": True}, True), ({"add_up": None}, False), (None, False)):
        model = {name: value for name, value in record["model"].items() if name != "rows"}
        stated = record | {"model": model | ({} if rows is None else {"rows": rows})}
        monkeypatch.setattr(plans, "record_of", lambda *_, stated=stated: stated)
        assert plans._together(place.ledger, place.declaration, chain) is together
