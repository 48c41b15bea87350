"""Plan to take batches out of a panel: the members with rows in them are fitted again on what is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lindley.batch.batch import Batch
from lindley.errors import not_of_panels
from lindley.ledger.chain import ChainLink
from lindley.ledger.lineage import Origin, read_batches
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_record
from lindley.ledger.record import digest
from lindley.operations.checking.changes import refuse_model_change
from lindley.operations.panel.plan import PanelPlan
from lindley.operations.plan import Plan
from lindley.panel.key import MemberKey
from lindley.panel.members import member_batch, split_by
from lindley.panel.reading import PanelReader
from lindley.panel.row import ACCEPTED, MemberRow
from lindley.panel.work import POPULATION, Common, MemberWork, withdrawn
from lindley.timing import FETCH


def without_batches(
    ledger: Ledger, plan: Plan, left: Sequence[ChainLink], *, accept_model_change: bool = False
) -> Plan:
    """Return a plan that takes batches out of a panel.

    Only members that a batch among `plan.retracted` moved are fitted: together on all their batches that are
    left, from the model's own priors. One without any left has no belief any more.

    Parameters
    ----------
    left
        The links whose batches still count, in order.

    Raises
    ------
    PanelRefused
        If members started from the population: what is left would have made another one.
    ModelRefused
        If the model's code is not the head's and that is not accepted.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    chain, declaration = plan.chain, plan.declaration
    if declaration.panel.new == POPULATION:
        what = "batches are not taken out where new members start from the population"
        raise not_of_panels(declaration.name, what, f"`lindley rollback {declaration.name} LINK`")
    with plan.phases(FETCH):
        if not accept_model_change:
            refuse_model_change(declaration, read_record(ledger, chain.links[-1]), chain)
        reader = PanelReader(ledger, chain)
        index = reader.index(len(chain.links))
        gone = {key for link in plan.retracted if link.number for key in _moved(reader, link)}
        rows = reader.find(index, gone)
        held = _batches_of(ledger, plan, reader, left, gone)
    link = plan.link
    common = Common(link=link, genesis=digest(plan.genesis), model=declaration.model_digest)
    ordered = sorted(rows, key=lambda key: key.canonical)
    work = tuple(_again(key, rows[key], held[key]) for key in ordered if held[key])
    members = PanelPlan(
        common=common,
        work=work,
        index=index,
        withdrawn=tuple(withdrawn(rows[key], link) for key in ordered if not held[key]),
    )
    return replace(plan, members=members, origin=Origin(None, tuple(left)))


def _again(key: MemberKey, before: MemberRow, held: list[tuple[int, Batch]]) -> MemberWork:
    """Return the work of a member that is fitted again on batches of links."""
    links, batches = zip(*held, strict=True)
    return MemberWork(key=key, batches=batches, before=before, own=False, replayed=links)


def _moved(reader: PanelReader, link: ChainLink) -> list[MemberKey]:
    """Return the members whose belief a link's own batch moved."""
    return [row.key for row in reader.rows(link.number).values() if row.status == ACCEPTED]


def _batches_of(
    ledger: Ledger, plan: Plan, reader: PanelReader, left: Sequence[ChainLink], keys: set[MemberKey]
) -> dict[MemberKey, list[tuple[int, Batch]]]:
    """Return the batches of members that still count, each with the number of its link, in order."""
    found: dict[MemberKey, list[tuple[int, Batch]]] = {key: [] for key in keys}
    for link in left:
        moved = keys.intersection(_moved(reader, link))
        if not moved:
            continue
        (batch,) = read_batches(ledger, plan.declaration, [link])
        tables = split_by(batch.table, plan.declaration.by)
        for key in moved:
            found[key].append((link.number, member_batch(tables[key], batch)))
    return found
