"""Rows that a person rejected stay out of a pull until they are brought back or the source revises them."""

from __future__ import annotations

import pytest

from flows.sequences.amend import approve, reject
from flows.sequences.result import Result
from flows.sequences.steps import Steps
from lindley.operations.pulls import plans
from lindley.workspace import Workspace
from tests.support import fakes
from tests.support.amendments import NAME, chain_of, is_sound
from tests.support.fakes import MemoryLedger
from tests.support.pulls import SOURCE, Place

POLICY = ", policy=dataclasses.replace(declaration.policy, approve={!r})"


@pytest.fixture
def place(steps: Steps, workspace: Workspace, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("lindley.arrivals.sources.places.is_complete", lambda *_, **__: True)
    monkeypatch.setattr(plans, "_together", lambda *_: True)
    made = Place(steps, workspace, ledger)
    asks(made, "never")
    made.pull(dict.fromkeys(range(4), 3))
    asks(made, "always")
    return made


def asks(place: Place, when: str) -> None:
    place.declaration = fakes.declare(
        place.workspace.models, code=SOURCE.format(options=', vanished="retract"', more=POLICY.format(when))
    )


def decide(place: Place, how: object, version: int) -> Result:
    return how(place.steps, place.workspace, NAME, str(version), "Ann", "a test file")  # type: ignore[operator]


def test_new_rows_stay_out_while_they_are_as_they_were(place: Place) -> None:
    rows = dict.fromkeys(range(8), 3)
    assert place.pull(rows).status == "candidate"
    decide(place, reject, 2)
    again = place.pull(again=True)
    assert (again.status, again.pulled["rows"]["rejected"], again.pulled["rows"]["new"]) == (
        "unchanged",
        4,
        0,
    )
    assert "4 rows kept out, as a person rejected them (--rejected brings them back)" in again.message
    asks(place, "never")
    more = place.pull(rows | {8: 3})
    assert (more.status, more.pulled["rows"]["new"], more.pulled["rows"]["rejected"]) == ("accepted", 1, 4)
    revised = place.pull(rows | {8: 3, 5: 6})
    assert (revised.pulled["rows"]["new"], revised.pulled["rows"]["rejected"]) == (1, 3)
    assert place.rows() == dict.fromkeys([*range(4), 8], 3) | {5: 6}
    back = place.pull(rejected=True)
    assert (back.status, back.pulled["rows"]["new"], back.pulled["rows"]["rejected"]) == ("accepted", 3, 0)
    assert place.rows() == rows | {8: 3, 5: 6}
    assert place.pull(again=True).pulled["rows"]["rejected"] == 0
    assert is_sound(place.ledger)


def test_a_revision_that_was_rejected_leaves_the_rows_that_count(place: Place) -> None:
    rows = dict.fromkeys(range(4), 3)
    assert place.pull(rows | {1: 9}).status == "candidate"
    decide(place, reject, 2)
    asks(place, "never")
    made = place.pull(rows | {1: 9, 4: 3})
    assert (made.pulled["rows"]["revised"], made.pulled["rows"]["rejected"]) == (0, 1)
    assert place.rows() == rows | {4: 3}
    assert place.pull(rows | {1: 8, 4: 3}).pulled["rows"]["revised"] == 1
    assert place.rows() == rows | {1: 8, 4: 3}
    assert is_sound(place.ledger)


def test_a_batch_that_was_approved_is_counted_and_not_pulled_again(place: Place) -> None:
    rows = dict.fromkeys(range(8), 3)
    place.pull(rows)
    assert decide(place, approve, 2).status == "accepted"
    again = place.pull(again=True)
    assert (again.status, sum(again.pulled["rows"].values())) == ("unchanged", 0)
    assert len(chain_of(place.ledger).links) == 2
