"""The chain as people read it."""

from __future__ import annotations

import dataclasses

import pytest

from lindley.errors import NameRefused, UnknownChain
from lindley.ledger.history import LinkView, history
from lindley.model.declaration import Declaration
from tests.support.fakes import MemoryLedger, append, coins
from tests.support.forging import record_of

NAME = "coins"


def test_links_come_oldest_first(coins_chain: MemoryLedger) -> None:
    views = history(coins_chain, NAME)
    assert [(view.number, view.version, view.status) for view in views] == [
        (1, 1, "accepted"),
        (2, 2, "accepted"),
        (3, 5, "accepted"),
    ]
    assert [view.origin for view in views] == ["coins-000.csv", "coins-010.csv", "coins-030.csv"]
    assert views[0].previous == coins_chain.models[NAME].genesis
    assert [view.previous for view in views[1:]] == [view.record_digest for view in views[:-1]]


def test_a_view_says_what_the_record_says(coins_chain: MemoryLedger) -> None:
    view, record = history(coins_chain, NAME)[1], record_of(coins_chain, NAME, 2)
    assert view.kind == record["kind"] == "update"
    assert view.batch_digest == record["batch"]["digest"]
    assert (view.rows, view.prior) == (4, record["prior"])
    assert view.metrics == record["metrics"]
    assert view.reasons == ()
    assert view.run_id == coins_chain.versions(NAME)[1].run_id
    assert view.created == "2020-01-22T06:00:00+00:00"


def test_every_version_is_shown_when_asked_for(coins_chain: MemoryLedger) -> None:
    views = history(coins_chain, NAME, every=True)
    assert [(view.number, view.version, view.status) for view in views] == [
        (1, 1, "accepted"),
        (2, 2, "accepted"),
        (None, 3, "quarantined"),
        (None, 4, "superseded"),
        (3, 5, "accepted"),
    ]
    assert views[2].reasons == ("R-hat 1.3100 of theta, at most 1.01 allowed",)
    assert [view for view in views if view.status == "accepted"] == history(coins_chain, NAME)


def test_a_chain_that_only_has_refused_fits_has_no_links(declaration: Declaration) -> None:
    ledger = MemoryLedger()
    append(ledger, declaration, coins(declaration, 0), passed=False)
    assert history(ledger, NAME) == []
    assert [view.status for view in history(ledger, NAME, every=True)] == ["quarantined"]


def test_an_unknown_chain_names_the_known_ones(coins_chain: MemoryLedger) -> None:
    with pytest.raises(UnknownChain) as caught:
        history(coins_chain, "coin")
    assert "coins" in caught.value.expected
    with pytest.raises(UnknownChain, match="none yet"):
        history(MemoryLedger(), "coins")
    with pytest.raises(NameRefused):
        history(coins_chain, "coins' OR name='x")


def test_views_cannot_be_changed(coins_chain: MemoryLedger) -> None:
    view: LinkView = history(coins_chain, NAME)[0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        view.status = "quarantined"  # type: ignore[misc]
