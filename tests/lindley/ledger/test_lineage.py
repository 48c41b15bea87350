"""Where an update starts and how a link came about, on synthetic chains; context from a ledger."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lindley.batch.batch import Batch
from lindley.errors import LedgerCorrupt
from lindley.inference.memory_chain import MemoryChain
from lindley.ledger.chain import Chain, ChainLink, Version
from lindley.ledger.lineage import Origin, batches_of, behind, in_context, origin, starting_point, trusted
from lindley.ledger.reading import find_chain
from lindley.model.declaration import Declaration
from lindley.model.policy import BATCH_COST, Window
from lindley.prior.belief import Belief
from tests.support import refits
from tests.support.fakes import MemoryLedger, append, coins

GENESIS = "r0"
#: Rows of every batch.
ROWS = 7
#: Links by letter: an update whose match is trusted, one whose is not, one without that metric; a pooled
#: refit whose match is trusted, one whose is not; an import whose match is not.
KINDS = {
    "u": ("update", {"trusted": 1.0}),
    "x": ("update", {"trusted": 0.0}),
    "o": ("update", {}),
    "R": ("rebase", {"trusted": 1.0}),
    "X": ("rebase", {"trusted": 0.0}),
    "i": ("import", {"trusted": 0.0}),
    "I": ("import", {}),
}


def chain_of(letters: str, priors: dict[int, str] | None = None) -> Chain:
    """A chain with a link per letter; `priors` states which link (0 is genesis) others than usual start from.

    An update starts from the link before it, a pooled refit from the import or genesis.
    """
    links = []
    start = "r1" if letters[:1] in ("i", "I") else GENESIS
    for number, letter in enumerate(letters, 1):
        kind, metrics = KINDS[letter]
        prior = {"rebase": start, "import": GENESIS}.get(kind, f"r{number - 1}")
        version = Version(
            number=number + 10,
            kind=kind,
            record=f"r{number}",
            previous=f"r{number - 1}",
            prior=(priors or {}).get(number, prior),
            batch=f"b{number}" if kind == "update" else "",
            rows=ROWS if kind == "update" else 0,
            status="accepted",
            run_id=str(number),
            metrics=metrics,
        )
        links.append(ChainLink(number, version))
    return Chain(GENESIS, tuple(links), (), ())


def numbers(found: Origin) -> tuple[int, tuple[int, ...]]:
    """Numbers of the link it starts from (0 is genesis) and of those whose batches are fitted."""
    return (found.prior.number if found.prior else 0), tuple(link.number for link in found.links)


@pytest.mark.parametrize(
    ("letters", "window", "start"),
    [
        ("", 9, (0, ())),
        ("u", 9, (1, ())),
        ("o", 9, (1, ())),
        ("x", 9, (0, (1,))),
        ("xxx", 9, (0, (1, 2, 3))),
        ("uxx", 9, (1, (2, 3))),
        ("xux", 9, (2, (3,))),
        # Over the window it starts from a match that is not trusted: that of the oldest link within reach.
        ("xxx", 2, (1, (2, 3))),
        ("xxx", 0, (3, ())),
        # A pooled refit is undone with all its batches, or not at all.
        ("uuR", 9, (3, ())),
        ("uuX", 9, (0, (1, 2))),
        ("uuX", 2, (0, (1, 2))),
        ("uuX", 1, (3, ())),
        ("uuXx", 3, (0, (1, 2, 4))),
        ("uuXx", 2, (3, (4,))),
        ("uuXux", 9, (4, (5,))),
        ("uuXuXx", 4, (0, (1, 2, 4, 6))),
        ("uuXuXx", 3, (5, (6,))),
        # Nothing is before an import.
        ("i", 9, (1, ())),
        ("I", 9, (1, ())),
        ("ixx", 9, (1, (2, 3))),
        ("iuuX", 9, (1, (2, 3))),
        ("iuuXx", 9, (1, (2, 3, 5))),
        ("iuuXx", 2, (4, (5,))),
    ],
)
def test_an_update_starts_before_untrusted_links_within_the_window(
    letters: str, window: int, start: tuple[int, tuple[int, ...]]
) -> None:
    assert numbers(starting_point(chain_of(letters), ROWS, Window(1, window))) == start


def budget(batches: int) -> int:
    """The budget in rows of a new batch and so many earlier ones."""
    return ROWS + batches * (ROWS + BATCH_COST)


@pytest.mark.parametrize(
    ("letters", "priors", "rows", "start"),
    [
        # All batches while they fit in, then one match for as many as do.
        ("uuu", {2: GENESIS, 3: GENESIS}, budget(3), (0, (1, 2, 3))),
        ("uuu", {2: GENESIS, 3: GENESIS}, budget(3) - 1, (3, ())),
        ("uuuu", {2: GENESIS, 3: GENESIS}, budget(3), (3, (4,))),
        ("uuuuu", {2: GENESIS, 3: GENESIS, 5: "r3"}, budget(3), (3, (4, 5))),
        # A match that is not trusted is no start while the window stretches to one that is.
        ("uux", {2: GENESIS, 3: GENESIS}, budget(2), (0, (1, 2, 3))),
        ("uuxu", {2: GENESIS, 3: GENESIS}, budget(1), (4, ())),
        # An import and a pooled refit are where they are.
        ("Iuu", {}, budget(2), (1, (2, 3))),
        ("uuR", {2: GENESIS}, budget(2), (0, (1, 2))),
        ("uuR", {2: GENESIS}, budget(1), (3, ())),
    ],
)
def test_an_update_starts_from_the_oldest_trusted_link_that_the_rows_allow(
    letters: str, priors: dict[int, str], rows: int, start: tuple[int, tuple[int, ...]]
) -> None:
    assert numbers(starting_point(chain_of(letters, priors), ROWS, Window(rows, 12))) == start


@given(st.text("ux", max_size=10), st.integers(0, 12), st.integers(1, 200))
def test_with_updates_alone_a_chain_in_memory_starts_at_the_same_link(
    letters: str, window: int, rows: int
) -> None:
    matched: Any = None
    beliefs = tuple(Belief(matched, 0.0, trusted=letter == "u") for letter in letters)
    batches: Any = tuple(SimpleNamespace(rows=ROWS) for _ in letters)
    memory = MemoryChain(beliefs, batches, (0,) * len(letters))
    start, again = memory.starting_point(ROWS, Window(rows, window))
    place = len(letters) - len(again)
    assert start.prior is (beliefs[place - 1] if place else None)
    assert numbers(starting_point(chain_of(letters), ROWS, Window(rows, window))) == (
        place, tuple(range(place + 1, len(letters) + 1)),
    )  # fmt: skip


@given(st.sampled_from(["", "i", "I"]), st.text("uxoRX", max_size=10), st.integers(0, 12))
def test_what_is_fitted_again_are_all_batches_since_the_start_and_no_more_than_the_window(
    first: str, letters: str, window: int
) -> None:
    # A pooled refit has batches to refit, and follows an update.
    letters = first + "u" + letters.replace("RR", "R").replace("XX", "X").replace("RX", "R")
    chain = chain_of(letters)
    found = starting_point(chain, ROWS, Window(1, window))
    start, again = numbers(found)
    assert len(again) <= window
    assert again == tuple(link.number for link in chain.links[start:] if link.version.batch)
    if found.prior is not None and not trusted(found.prior):
        made = origin(chain, found.prior)
        own = (found.prior,) if found.prior.version.batch else made.links
        assert not own or len(again) + len(own) > window


class TestOrigins:
    def test_the_links_since_its_prior_and_itself(self) -> None:
        chain = chain_of("uuuuu", {4: "r1"})
        assert numbers(origin(chain, chain.links[3])) == (1, (2, 3, 4))
        assert numbers(origin(chain, chain.links[4])) == (4, (5,))

    def test_a_pooled_refit_has_all_batches_and_counts_as_none(self) -> None:
        chain = chain_of("uuRu", {4: GENESIS})
        assert numbers(origin(chain, chain.links[2])) == (0, (1, 2))
        assert numbers(origin(chain, chain.links[3])) == (0, (1, 2, 4))

    def test_an_import_has_none(self) -> None:
        chain = chain_of("iuuR")
        assert numbers(origin(chain, chain.links[0])) == (0, ())
        assert numbers(origin(chain, chain.links[3])) == (1, (2, 3))

    def test_segments_behind_a_link_go_back_to_genesis_newest_first(self) -> None:
        chain = chain_of("uuuuu", {4: "r1"})
        assert list(map(numbers, behind(chain, chain.head))) == [(4, (5,)), (1, (2, 3, 4)), (0, (1,))]
        assert list(behind(chain, None)) == []

    def test_behind_a_pooled_refit_is_nothing(self) -> None:
        chain = chain_of("uuRu")
        assert list(map(numbers, behind(chain, chain.head))) == [(3, (4,)), (0, (1, 2))]

    def test_an_import_stops_it(self) -> None:
        chain = chain_of("Iuu")
        assert list(map(numbers, behind(chain, chain.head))) == [(2, (3,)), (1, (2,))]
        assert list(behind(chain, chain.links[0])) == []

    @given(st.data(), st.integers(1, 8))
    def test_segments_cover_every_batch_once_whatever_was_fitted_again(
        self, data: st.DataObject, size: int
    ) -> None:
        priors = {n: f"r{data.draw(st.integers(0, n - 1))}" for n in range(1, size + 1)}
        chain = chain_of("u" * size, priors)
        segments = [numbers(made) for made in behind(chain, chain.head)]
        covered = [number for _, again in reversed(segments) for number in again]
        assert covered == list(range(1, size + 1))
        for (start, _), (_, older) in zip(segments, [*segments[1:], (0, ())], strict=True):
            assert start == (older[-1] if older else 0)


def following(ledger: MemoryLedger, declared: Declaration, batch: Batch) -> Batch:
    """A batch with the rows that the head counts before it."""
    return in_context(ledger, declared, find_chain(ledger, "coins").at_head, [batch])[0]


class TestContext:
    """The batches of `coins_chain` have the ids 0 to 3, 10 to 13 and 30 to 33."""

    ids = (0, 1, 2, 3, 10, 11, 12, 13, 30, 31, 32, 33)

    @pytest.mark.parametrize("wanted", [1, 4, 5, 8, 9, 12, 50])
    def test_it_is_the_last_rows_of_the_links_before_in_their_order(
        self, coins_chain: MemoryLedger, declaration: Declaration, wanted: int
    ) -> None:
        declared = dataclasses.replace(declaration, context=wanted)
        batch = coins(declared, 40)
        found = following(coins_chain, declared, batch)
        frame = found.context_frame()
        assert frame is not None
        assert tuple(frame["id"]) == self.ids[-wanted:]
        assert (found.digest, found.rows) == (batch.digest, 4)

    def test_a_link_of_the_chain_has_the_rows_before_it(
        self, coins_chain: MemoryLedger, declaration: Declaration
    ) -> None:
        declared = dataclasses.replace(declaration, context=5)
        chain = find_chain(coins_chain, "coins")
        batches = batches_of(coins_chain, declared, chain, Origin(None, chain.links))
        contexts = [tuple(frame["id"]) for b in batches if (frame := b.context_frame()) is not None]
        assert contexts == [(), self.ids[:4], self.ids[3:8]]
        assert [batch.origin for batch in batches] == ["coins-000.csv", "coins-010.csv", "coins-030.csv"]

    def test_a_pooled_refit_is_no_row(self, coins_chain: MemoryLedger, declaration: Declaration) -> None:
        ledger = coins_chain.clone()
        refits.rebase(ledger, declaration)
        append(ledger, declaration, coins(declaration, 40, 1))
        declared = dataclasses.replace(declaration, context=2)
        frame = following(ledger, declared, coins(declared, 50)).context_frame()
        assert frame is not None
        assert list(frame["id"]) == [33, 40]

    def test_a_chain_that_asks_for_none_has_none(
        self, coins_chain: MemoryLedger, declaration: Declaration
    ) -> None:
        batch = coins(declaration, 40)
        found = following(coins_chain, declaration, batch)
        assert found.context is None
        assert found.context_frame() is None

    def test_rows_that_are_not_those_that_were_counted_are_no_context(
        self, coins_chain: MemoryLedger, declaration: Declaration
    ) -> None:
        ledger = coins_chain.clone()
        ledger.run_of("coins", 5).files["batch.parquet"] = ledger.run_of("coins", 2).files["batch.parquet"]
        declared = dataclasses.replace(declaration, context=1)
        with pytest.raises(LedgerCorrupt, match="batch of link 3"):
            following(ledger, declared, coins(declared, 40))
