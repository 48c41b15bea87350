"""Another file takes the name of a file that is read or fitted: it stays, and is the next batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from flows.sequences.update import update_one
from lindley.batch.reading import read_batch
from lindley.ledger.history import history
from tests.support import fakes


def stored(workspace) -> list[Path]:
    return sorted((workspace.store / "coins").glob("*"))


def test_a_file_that_is_replaced_during_the_fit_is_the_next_link(steps, workspace, ledger, land, fits, said):
    path = land("today.csv", 1)
    fits.during = lambda: land("new.csv", 5).replace(path)
    result = update_one(steps, workspace, "coins", path)
    assert (result.status, result.link) == ("accepted", 1)
    assert "5,3,10" in path.read_text()
    (view,) = history(ledger, "coins")
    assert (
        stored(workspace) == [Path(result.stored)] == [workspace.store / f"coins/{view.batch_digest}.parquet"]
    )
    assert read_batch(Path(result.stored), fakes.declare(workspace.models)).digest == view.batch_digest
    assert said == [
        "today.csv was replaced; the rows that were read of it are in the store",
        "today.csv is now another file, which is left for the next run",
    ]
    fits.during = lambda: None
    assert update_one(steps, workspace, "coins", path).link == 2
    assert not path.exists()


def test_a_replacement_that_is_a_duplicate_batch_stays(steps, workspace, land):
    update_one(steps, workspace, "coins", land("a.csv", 1))
    path = land("today.csv", 1)

    def plan(*what, **options):
        land("new.csv", 5).replace(path)
        return steps.plan(*what, **options)

    assert update_one(replace(steps, plan=plan), workspace, "coins", path).status == "unchanged"
    assert "5,3,10" in path.read_text()
    assert len(stored(workspace)) == 1


def test_a_file_from_elsewhere_that_was_edited_is_stored_as_it_was_read(
    steps, workspace, land, fits, tmp_path
):
    path = land("a.csv").rename(tmp_path / "mine.csv")
    fits.during = lambda: path.write_text("edited")
    result = update_one(steps, workspace, "coins", path)
    assert path.read_text() == "edited"
    assert read_batch(Path(result.stored), fakes.declare(workspace.models)).rows == 4


def test_the_file_that_replaced_a_refused_one_is_not_refused_with_it(steps, workspace, land, said):
    update_one(steps, workspace, "coins", land("a.csv", 1))
    path = land("today.csv", 3)

    def plan(*what, **options):
        land("new.csv", 5).replace(path)
        return steps.plan(*what, **options)

    result = update_one(replace(steps, plan=plan), workspace, "coins", path)
    assert (result.status, "another file than the one that was refused" in result.message) == (
        "unfinished",
        True,
    )
    assert "5,3,10" in path.read_text()
    assert list((workspace.rejected / "coins").iterdir()) == []
    assert said[0].startswith("What was refused was today.csv shares 2 row keys")


@pytest.mark.parametrize("first", ["", "id,k\n1,3\n"])
def test_a_file_that_changes_while_it_is_read_is_unfinished(steps, workspace, land, fits, first):
    path = land("today.csv", text=first)

    def read(path, declaration):
        try:
            return read_batch(path, declaration)
        finally:
            land("new.csv", 5).replace(path)

    result = update_one(replace(steps, read=read), workspace, "coins", path)
    assert (result.status, fits.plans) == ("unfinished", [])
    assert "changed while it was read" in result.message
    assert not (workspace.rejected / "coins").exists()
    assert update_one(steps, workspace, "coins", path).status == "accepted"
