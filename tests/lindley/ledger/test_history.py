"""The chain as people read it."""

from __future__ import annotations

import dataclasses

import pytest

from lindley.errors import NameRefused, UnknownChain
from lindley.ledger.history import LinkView, find_link, history, waiting
from lindley.ledger.reading import find_chain
from lindley.model.declaration import Declaration
from lindley.operations.retract import plan_retract
from tests.support.fakes import MemoryLedger, append, coins, done
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


def test_a_link_prints_as_one_line(coins_chain: MemoryLedger) -> None:
    link = find_link(coins_chain, "coins@2")
    assert (
        str(link)
        == repr(link)
        == f"coins@2 (update): coins-010.csv, 4 rows, record {link.view.record_digest[:12]}"
    )


def test_batches_that_the_head_does_not_count_are_known_from_every_view(coins_chain: MemoryLedger) -> None:
    """The quarantined version 3 came before link 3, which states it: record, warning, and its marked view."""
    assert [view.version for view in waiting(find_chain(coins_chain, NAME))] == [3]
    link = find_link(coins_chain, "coins@1")
    assert link.waiting == ("coins-020.csv",)
    record = record_of(coins_chain, NAME, 5)
    assert record["metrics"]["quarantined"] == 1
    assert record["gate"]["warnings"] == ["1 quarantined batch is not counted: coins-020.csv"]
    assert history(coins_chain, NAME)[2].warnings == tuple(record["gate"]["warnings"])
    assert "1 warning" in str(find_link(coins_chain, "coins@3"))
    assert record_of(coins_chain, NAME, 2)["metrics"]["quarantined"] == 0


def test_a_batch_that_was_counted_since_waits_no_longer(
    coins_chain: MemoryLedger, declaration: Declaration
) -> None:
    ledger = coins_chain.clone()
    append(ledger, declaration, coins(declaration, 20, k=9, origin="again.csv"))
    assert waiting(find_chain(ledger, NAME)) == []
    done(ledger, plan_retract(ledger, declaration, ["again.csv"]))
    assert waiting(find_chain(ledger, NAME)) == []
    append(ledger, declaration, coins(declaration, 20, k=9), passed=False)
    assert [view.version for view in waiting(find_chain(ledger, NAME))] == [8]
