"""What each link counts, against a plain oracle of lists, whatever writers do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lindley.ledger.chain import Chain, Version, walk
from lindley.ledger.lineage import behind, origin, starting_point
from lindley.ledger.record import Kind
from lindley.model.policy import Window

GENESIS = "genesis"
KINDS = (Kind.UPDATE, Kind.UPDATE, Kind.UPDATE, Kind.RETRACT, Kind.CORRECT, Kind.ROLLBACK, Kind.REBASE)


@dataclass
class Oracle:
    """A chain as plain lists: after each link the letters of the batches that count, in order."""

    versions: list[Version] = field(default_factory=list)
    #: Record of each link with what it counts, genesis first; and who brought which batch.
    line: list[tuple[str, list[str]]] = field(default_factory=lambda: [(GENESIS, [])])
    brought: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, *, wins: bool, choose: Any) -> None:
        """Let a writer do something to the newest head."""
        number = len(self.versions) + 1
        (head, counted), record, batch = self.line[-1], f"r{number}", f"b{number}"
        prior, retracted, after = head, list[str](), list(counted)
        if kind == Kind.UPDATE or not counted:
            kind, after = Kind.UPDATE, [*counted, batch]
        elif kind == Kind.ROLLBACK:
            prior, after = choose(self.line[1:])
        elif kind == Kind.REBASE:
            prior = GENESIS
        else:
            gone = sorted(set(choose.some(counted))) if kind == Kind.RETRACT else [choose(counted)]
            if kind == Kind.RETRACT and len(gone) == len(counted):
                gone = gone[:-1]
            kind = kind if gone else Kind.UPDATE
            retracted = [self.brought[name] for name in gone]
            place = counted.index(gone[0]) if gone else len(counted)
            after = [name for name in counted if name not in gone]
            if kind != Kind.RETRACT:
                after.insert(place, batch)
            prior = self._before(after, counted[: min((counted.index(g) for g in gone), default=place)])
        own = batch if kind in (Kind.UPDATE, Kind.CORRECT) else ""
        self.versions.append(
            Version(
                number=number,
                kind=kind,
                record=record,
                previous=head if wins else choose([r for r, _ in self.line[:-1]] or ["other"]),
                prior=prior,
                batch=own,
                status="accepted",
                run_id=str(number),
                retracted=tuple(retracted),
                metrics={"trusted": float(choose([0, 1, 1]))},
            )
        )
        if wins:
            self.line.append((record, list(after)))
            self.brought |= {own: record} if own else {}

    def _before(self, after: list[str], seen: list[str]) -> str:
        """The newest link that counts no more than what comes first and stays."""
        fits = [(len(names), place) for place, (_, names) in enumerate(self.line)
                if names == seen[: len(names)] and names == after[: len(names)]]  # fmt: skip
        return self.line[max(fits)[1]][0]


@st.composite
def histories(draw: st.DrawFn) -> Oracle:
    class Choose:
        def __call__(self, of: list[Any]) -> Any:
            return draw(st.sampled_from(of))

        def some(self, of: list[Any]) -> list[Any]:
            return draw(st.lists(st.sampled_from(of), min_size=1, max_size=3))

    oracle, choose = Oracle(), Choose()
    for _ in range(draw(st.integers(0, 14))):
        fate = draw(st.sampled_from(["wins", "wins", "wins", "wins", "loses", "quarantined"]))
        oracle.add(draw(st.sampled_from(KINDS)), wins=fate == "wins", choose=choose)
        if fate == "quarantined":
            last = oracle.versions.pop()
            fields = {name: getattr(last, name) for name in last.__dataclass_fields__}
            oracle.versions.append(
                Version(**fields | {"status": "quarantined", "previous": oracle.line[-1][0]})
            )
    return oracle


def names(chain: Chain, links: Any) -> list[str]:
    return [link.version.batch for link in links]


@settings(max_examples=400)
@given(histories(), st.randoms(use_true_random=False))
def test_every_link_counts_what_plain_lists_say(oracle: Oracle, order: Any) -> None:
    shuffled = list(oracle.versions)
    order.shuffle(shuffled)
    chain = walk(GENESIS, shuffled)
    assert [link.version.record for link in chain.links] == [record for record, _ in oracle.line[1:]]
    for link, (_, counted) in zip(chain.links, oracle.line[1:], strict=True):
        assert names(chain, chain.counted(link)) == counted
    assert names(chain, chain.at_head) == oracle.line[-1][1]
    assert chain.counted(None) == ()
    for batch in oracle.brought:
        held = chain.with_batch(batch)
        assert (held is not None) == (batch in oracle.line[-1][1])


@settings(max_examples=400)
@given(histories(), st.integers(0, 14))
def test_what_a_fit_starts_from_and_what_it_fits_are_together_what_counts(
    oracle: Oracle, window: int
) -> None:
    chain = walk(GENESIS, oracle.versions)
    found = starting_point(chain, 1, Window(1, window))
    assert len(found.links) <= window
    assert names(chain, (*chain.counted(found.prior), *found.links)) == oracle.line[-1][1]
    for link in chain.links:
        made = origin(chain, link)
        assert sorted(names(chain, (*chain.counted(made.prior), *made.links))) == sorted(
            names(chain, chain.counted(link))
        )
        segments = list(behind(chain, link))
        assert sorted(n for made in segments for n in names(chain, made.links)) == sorted(
            names(chain, chain.counted(link))
        )


def test_tags_that_name_no_link_or_a_later_one_count_nothing_and_end() -> None:
    def version(number: int, **fields: Any) -> Version:
        known = {"kind": Kind.UPDATE, "batch": f"b{number}", "prior": f"r{number - 1}"} | fields
        return Version(
            number=number, record=f"r{number}", previous=f"r{number - 1}" if number > 1 else GENESIS,
            status="accepted", run_id=str(number), **known,
        )  # fmt: skip

    later = walk(GENESIS, [version(1), version(2, kind=Kind.ROLLBACK, batch="", prior="r3"), version(3)])
    assert names(later, later.at_head) == ["b3"]
    itself = walk(GENESIS, [version(1), version(2, kind=Kind.BRANCH, batch="", prior="r2")])
    assert itself.at_head == ()
    stray = walk(GENESIS, [version(1), version(2, kind=Kind.RETRACT, batch="", retracted=("x",))])
    assert names(stray, stray.at_head) == ["b1"]
    added = walk(GENESIS, [version(1), version(2, kind=Kind.CORRECT, retracted=("x",))])
    assert names(added, added.at_head) == ["b1", "b2"]


def test_a_branch_counts_on_after_the_links_that_it_continues() -> None:
    def version(number: int, record: str, previous: str, **fields: Any) -> Version:
        known = {"kind": Kind.UPDATE, "batch": f"b-{record}", "prior": previous} | fields
        return Version(
            number=number, record=record, previous=previous, status="accepted", run_id=record, **known
        )

    source = walk(GENESIS, [version(1, "r1", GENESIS), version(2, "r2", "r1"), version(3, "r3", "r2")])
    own = [
        version(1, "w1", "r2", kind=Kind.BRANCH, batch=""),
        version(2, "w2", "w1"),
        version(3, "w3", "w2", kind=Kind.RETRACT, batch="", prior=GENESIS, retracted=("r1",)),
    ]
    chain = walk("other genesis", own, source.links[:2])
    assert [link.number for link in chain.links] == [1, 2, 3, 4, 5]
    assert [link.number for link in chain.own] == [3, 4, 5]
    assert [names(chain, chain.counted(link)) for link in chain.links] == [
        ["b-r1"], ["b-r1", "b-r2"], ["b-r1", "b-r2"], ["b-r1", "b-r2", "b-w2"], ["b-r2", "b-w2"],
    ]  # fmt: skip
    assert chain.taken_out(chain.links[0]) is chain.links[4]
