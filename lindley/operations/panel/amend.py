"""Plan amendments of a panel: only the members whose rows change are fitted again, each on all that is left.

Each of them is fitted from the model's own priors on all its batches that count. A member without any left
has no belief any more.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from lindley.batch.batch import Batch
from lindley.errors import MemberRefused, not_of_panels
from lindley.ledger.chain import ChainLink
from lindley.ledger.lineage import Origin, read_batches
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_record
from lindley.ledger.record import Kind, digest
from lindley.operations.checking.changes import refuse_model_change
from lindley.operations.panel.plan import PanelPlan
from lindley.operations.panel.refit import batches_again
from lindley.operations.plan import Plan
from lindley.panel.key import MemberKey
from lindley.panel.members import batches_of, places_by
from lindley.panel.reading import PanelReader
from lindley.panel.row import ACCEPTED, MemberRow
from lindley.panel.work import POPULATION, Common, MemberWork, withdrawn
from lindley.timing import FETCH


def amended(
    ledger: Ledger,
    plan: Plan,
    left: Sequence[ChainLink],
    *,
    place: int = 0,
    member: MemberKey | None = None,
    accept_model_change: bool = False,
) -> Plan:
    """Return the plan of a retract, correct or rebase of a panel with the members that it fits.

    Parameters
    ----------
    plan
        Its `retracted` are taken out; its own batch counts in their place.
    left
        The links whose batches still count, in order.
    place
        How many of them count before the plan's own batch.
    member
        The only member that is fitted, for an audit; all that the plan touches by default.

    Raises
    ------
    PanelRefused
        If members started from the population: what is left would have made another one.
    MemberRefused
        If there is no such member, or it has no rows that count.
    ModelRefused
        If the model's code is not the head's and that is not accepted.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    chain, declaration, link = plan.chain, plan.declaration, plan.link
    if declaration.panel.new == POPULATION:
        what = "nothing is fitted again from the start where new members start from the population"
        raise not_of_panels(declaration.name, what, f"`lindley rollback {declaration.name} LINK`")
    with plan.phases(FETCH):
        if not accept_model_change:
            refuse_model_change(declaration, read_record(ledger, chain.links[-1]), chain)
        reader = PanelReader(ledger, chain)
        index = reader.index(len(chain.links))
        counting = Counting(ledger, plan, reader)
        own = {} if plan.batch is None else batches_of(plan.batch, declaration)
        touched = counting.touched(own, left)
        if member is not None:
            touched = _only(plan, member, touched)
        own = {key: batch for key, batch in own.items() if key in touched}
        rows = reader.find(index, touched)
        held = counting.links(left, touched)
        again = batches_again(ledger, declaration, chain, held)
    before = {other.number for other in left[:place]}
    work, gone = list[MemberWork](), list[MemberRow]()
    for key in sorted(touched, key=lambda key: key.canonical):
        at = sum(number in before for number in held[key])
        batches, links = list(again[key]), list(held[key])
        if key in own:
            batches.insert(at, own[key])
            links.insert(at, link)
        if batches:
            stated = own[key].digest if key in own else None
            row = rows.get(key)
            made = MemberWork(key=key, batches=tuple(batches), links=tuple(links), before=row, stated=stated)
            work.append(replace(made, own=False))
        else:
            gone.append(withdrawn(rows[key], link))
    common = Common(link=link, genesis=digest(plan.genesis), model=declaration.model_digest)
    members = PanelPlan(common=common, work=tuple(work), index=index, withdrawn=tuple(gone))
    return replace(plan, members=members, origin=Origin(None, tuple(left)))


def _only(plan: Plan, member: MemberKey, touched: Collection[MemberKey]) -> set[MemberKey]:
    """Return a member alone."""
    if member not in touched:
        raise MemberRefused(
            f"[{member}] of {plan.declaration.name} has no rows that could be fitted again",
            expected="a member whose rows count",
            found=f"none with this key among {len(touched):,} members with such rows",
            todo=f"correct the key; `lindley members {plan.declaration.name}` lists the members",
        )
    return {member}


class Counting:
    """Which members a link's batch counts for.

    A link that corrects another one fits only members whose rows changed. For the others its batch has the
    rows that counted in the batch that it replaced.
    """

    def __init__(self, ledger: Ledger, plan: Plan, reader: PanelReader) -> None:
        self._ledger, self._plan, self._reader = ledger, plan, reader
        self._moved: dict[int, set[MemberKey]] = {}

    def moved(self, link: ChainLink) -> set[MemberKey]:
        """Return the members whose belief counts the link's own batch."""
        if link.number not in self._moved:
            rows = self._reader.rows(link.number).values()
            found = {row.key for row in rows if row.status == ACCEPTED and row.batch is not None}
            if link.version.kind == Kind.CORRECT:
                found |= self._kept(link, {row.key for row in rows})
            self._moved[link.number] = found
        return self._moved[link.number]

    def _kept(self, link: ChainLink, fitted: set[MemberKey]) -> set[MemberKey]:
        """Return the members whose rows a correction left as they were."""
        chain, declaration = self._plan.chain, self._plan.declaration
        (batch,) = read_batches(self._ledger, declaration, [link])
        before = [chain.brought.get(record) for record in link.version.retracted]
        moved = {key for other in before if other is not None and other.number for key in self.moved(other)}
        return (moved & places_by(batch.table, declaration.by).keys()) - fitted

    def touched(self, own: dict[MemberKey, Batch], left: Sequence[ChainLink]) -> set[MemberKey]:
        """Return the members that an amendment fits: those whose rows change; all of them in a rebase."""
        if self._plan.kind == Kind.REBASE:
            return {key for link in left for key in self.moved(link)}
        gone = [link for link in self._plan.retracted if link.number]
        moved = {key for link in gone for key in self.moved(link)}
        if self._plan.kind != Kind.CORRECT:
            return moved
        again = batches_again(self._ledger, self._plan.declaration, self._plan.chain, self.links(gone, moved))
        old = {key: [batch.digest for batch in batches] for key, batches in again.items()}
        return {key for key in {*own, *moved} if old.get(key) != ([own[key].digest] if key in own else [])}

    def links(
        self, links: Sequence[ChainLink], keys: Collection[MemberKey]
    ) -> dict[MemberKey, tuple[int, ...]]:
        """Return the numbers of the links whose batches count for members, in order."""
        moved = [(link.number, self.moved(link)) for link in links]
        return {key: tuple(number for number, members in moved if key in members) for key in keys}
