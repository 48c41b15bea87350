"""Files of a chain are taken in the order in which they arrived."""

from __future__ import annotations

import pytest

from flows.sequences.files import set_aside
from flows.sequences.update import in_order
from lindley.errors import (
    BatchRefused,
    LedgerUnavailable,
    NameRefused,
)


def test_files_that_arrived_before_come_first(workspace, land, said):
    newest = land("a.csv", minutes=1)
    land("c.csv", minutes=3)
    land("b.csv", minutes=2)
    land("z.csv", minutes=0.9)
    taken: list[str] = []
    in_order(workspace, "coins", newest, lambda path: taken.append(path.name), said.append)
    assert taken == ["c.csv", "b.csv"]
    assert said[0] == "c.csv arrived before and comes first"


def test_other_chains_and_unfinished_files_are_not_before_it(workspace, land, said):
    path = land("a.csv", minutes=0.1)
    land("b.csv", minutes=9, chain="dice")
    land("c.parquet", minutes=0.5, text="PAR1 and then nothing")
    in_order(workspace, "coins", path, lambda path: pytest.fail(path.name), said.append)


def test_a_file_from_elsewhere_waits_for_none(workspace, land, tmp_path, said):
    land("a.csv")
    in_order(workspace, "coins", tmp_path / "mine.csv", lambda path: pytest.fail(path.name), said.append)


def test_a_file_at_fault_does_not_hold_up_the_next(workspace, land, said):
    newest = land("c.csv", minutes=1)
    land("a.csv", minutes=3)
    land("b.csv", minutes=2)
    taken: list[str] = []

    def one(path):
        taken.append(path.name)
        return BatchRefused("It is no batch")

    in_order(workspace, "coins", newest, one, said.append)
    assert taken == ["a.csv", "b.csv"]


def test_any_other_failure_holds_up_the_chain(workspace, land, said):
    newest = land("c.csv", minutes=1)
    land("a.csv", minutes=3)
    land("b.csv", minutes=2)
    taken: list[str] = []

    def one(path):
        taken.append(path.name)
        return LedgerUnavailable("It is down")

    with pytest.raises(LedgerUnavailable):
        in_order(workspace, "coins", newest, one, said.append)
    assert taken == ["a.csv"]


def test_setting_aside_what_is_gone_is_nothing(workspace):
    gone = workspace.landing / "coins" / "a.csv"
    gone.parent.mkdir(parents=True)
    assert set_aside(workspace, "coins", gone, BatchRefused("It is no batch")) is None
    assert set_aside(workspace, "coins", gone, NameRefused("Another")) is None
