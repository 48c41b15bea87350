"""Plan what a batch does to the members of a panel."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lindley.inference.members.population import FEWEST, population
from lindley.ledger.lineage import Origin
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_record
from lindley.ledger.record import digest, parse
from lindley.operations.checking.changes import refuse_model_change
from lindley.operations.panel.refit import batches_again, beginning, window_of
from lindley.operations.plan import Plan
from lindley.panel.index import Index, empty
from lindley.panel.key import read_key
from lindley.panel.members import batches_of
from lindley.panel.reading import PanelReader
from lindley.panel.row import MemberRow
from lindley.panel.work import POPULATION, Common, MemberWork
from lindley.prior.matched import MatchedPrior
from lindley.timing import FETCH


@dataclass(frozen=True, kw_only=True)
class PanelPlan:
    """What a link does to a panel.

    Parameters
    ----------
    common
        What all its members have in common.
    work
        The members that are fitted.
    index
        All members before the link.
    withdrawn
        Rows of the members that have no rows left.
    """

    common: Common
    work: tuple[MemberWork, ...]
    index: Index = field(repr=False)
    withdrawn: tuple[MemberRow, ...] = ()


def with_members(ledger: Ledger, plan: Plan, *, accept_model_change: bool = False) -> Plan:
    """Return the plan of a panel's update with the members of its batch.

    Raises
    ------
    ModelRefused
        If the model's code is not the head's and that is not accepted.
    BatchRefused, MemberRefused, DeclarationRefused
        If rows of the batch belong to no member.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    head, declaration, batch = plan.chain.head, plan.declaration, plan.batch
    batches = {} if batch is None else batches_of(batch, declaration)
    with plan.phases(FETCH):
        if not accept_model_change and not plan.fresh:
            record = read_record(ledger, head) if head else parse(plan.genesis)
            refuse_model_change(declaration, record, plan.chain)
        reader = PanelReader(ledger, plan.chain)
        index = reader.index(head.number) if head else empty()
        rows = reader.find(index, batches)
        new = any(key not in rows or rows[key].matched is None for key in batches)
        prior = _population(reader, index) if new and declaration.panel.new == POPULATION else None
        window = window_of(declaration, len(batches))
        began = {key: beginning(reader, rows.get(key), own.rows, window) for key, own in batches.items()}
        links = {key: found.links for key, found in began.items()}
        again = batches_again(ledger, declaration, plan.chain, links, held=True)
    work = tuple(
        MemberWork(
            key=key,
            batches=(*again[key], own),
            before=rows.get(key),
            start=began[key].start,
            links=(*began[key].links, plan.link),
        )
        for key, own in batches.items()
    )
    common = Common(
        link=plan.link,
        genesis=digest(plan.genesis),
        model=declaration.model_digest,
        population=prior,
    )
    members = PanelPlan(common=common, work=work, index=index)
    return replace(plan, members=members, batches=() if batch is None else (batch,), origin=Origin(head, ()))


def _population(reader: PanelReader, index: Index) -> MatchedPrior | None:
    """Return the prior of new members; None where too few have a belief to say how members differ."""
    keys = [read_key(text) for text in sorted(index.entries(), key=str.encode)]
    rows = reader.find(index, keys)
    held = [rows[key].matched for key in keys]
    beliefs = [matched for matched in held if matched is not None]
    return population(beliefs) if len(beliefs) >= FEWEST else None
