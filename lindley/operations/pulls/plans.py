"""The links that a pull makes: one correction of all revised batches, then the new batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import batched, groupby
from typing import Any

import numpy as np
import pyarrow as pa

from lindley.arrivals.sources.protocol import Pulled, Source
from lindley.arrivals.sources.rows import pieces, removed
from lindley.batch.batch import Batch, as_schema, conformed, naming
from lindley.batch.limits import Limits
from lindley.batch.row_keys import key_hashes
from lindley.errors import DeclarationRefused, LostRace, RevisionRefused
from lindley.ledger.chain import Chain, ChainLink
from lindley.ledger.lineage import read_batches
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import record_of
from lindley.ledger.record import MOST_RETRACTED
from lindley.ledger.references import shown
from lindley.model.declaration import Declaration
from lindley.operations.plan import Plan
from lindley.operations.pulls.compare import Comparison, Fate, compare
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.update import plan_update
from lindley.report.text import counted


@dataclass(frozen=True, kw_only=True)
class Item:
    """One link that a pull makes.

    Parameters
    ----------
    batch
        What it counts; None where batches are only taken out.
    old
        Digests of the batches that it takes out.
    """

    batch: Batch | None
    old: tuple[str, ...] = ()


def comparison_of(
    ledger: Ledger,
    declaration: Declaration,
    chain: Chain | None,
    pulled: Pulled,
    *,
    rejected: bool = False,
) -> Comparison:
    """Compare what was pulled with what the chain counts; see `compare`.

    Raises
    ------
    DeclarationRefused
        If the schema leaves the type of a column open: values are then not comparable from pull to pull.
    BatchRefused, LedgerCorrupt
        See `compare`.
    """
    first = True

    def again() -> Iterator[tuple[str, pa.Table]]:
        nonlocal first
        for name, table in pieces(pulled, declaration):
            if first:
                _refuse_open_types(declaration, table)
                first = False
            yield name, table

    lost = removed(pulled, declaration)
    with naming(pulled.name):
        return compare(
            ledger, declaration, chain, again, complete=pulled.complete, removed=lost, rejected=rejected
        )


def _refuse_open_types(declaration: Declaration, table: pa.Table) -> None:
    columns = as_schema(declaration.schema).columns(table.column_names)
    untyped = [column.name for column in columns if column.type is None]
    if untyped:
        raise DeclarationRefused(
            f"The schema of {declaration.name} leaves types open",
            expected="a type for each column of a source, so that equal values are equal at every pull",
            found=f"no type for {', '.join(untyped)[:200]}",
            todo="declare the types of these columns",
        )


def refuse_revisions(source: Source, found: Comparison) -> None:
    """Refuse revised rows where the declaration says so.

    Raises
    ------
    RevisionRefused
        If there are any.
    """
    revised = sum(found.revised.values())
    if source.revisions != "refuse" or not revised:
        return
    examples = [row for _, table in found.rows(Fate.REVISED) for row in _keys_of(found, table)]
    raise RevisionRefused(
        f"{counted(revised, 'row')} of {source.address} {'was' if revised == 1 else 'were'} revised",
        expected='a source whose rows stay as they were: revisions="refuse"',
        found=f"other values for {'; '.join(examples[:3])[:300]}",
        todo='find out why, and declare revisions="correct" or revisions="report"',
    )


def _keys_of(found: Comparison, table: pa.Table) -> list[str]:
    rows = table.slice(0, 3).select(list(found.key)).to_pylist()
    return [", ".join(f"{name}={value}" for name, value in row.items()) for row in rows]


def amendments(
    ledger: Ledger, declaration: Declaration, chain: Chain, found: Comparison, origin: str
) -> Iterator[Item]:
    """Yield what brings the batches that count up to the source: one correction, as far as one link can.

    All batches with revised rows are replaced by one batch. Where the rows of two batches do not add up, or
    batches continue from one another, each is replaced by itself, so that none changes its meaning. Batches
    of which nothing is left are taken out.

    Parameters
    ----------
    found
        With `Comparison.revised` and `Comparison.gone` of what is to be amended only.
    origin
        Name of the corrections, for people.
    """
    places = sorted(found.revised.keys() | found.gone.keys())
    if not places:
        return
    tables = [table for _, table in found.rows(Fate.REVISED)] if found.revised else []
    revised = pa.concat_tables(tables) if tables else None
    size = MOST_RETRACTED if _together(ledger, declaration, chain) else 1
    for group in batched(places, size):
        links = [chain.at_head[place] for place in group]
        rows = [
            _brought_up(batch, found, place, revised)
            for place, batch in zip(group, read_batches(ledger, declaration, links, held=True), strict=True)
        ]
        table = pa.concat_tables(rows)
        name = origin if size > 1 else links[0].version.origin
        batch = conformed(table, declaration, name) if table.num_rows else None
        yield Item(batch=batch, old=tuple(link.version.batch for link in links))


def _brought_up(batch: Batch, found: Comparison, place: int, revised: pa.Table | None) -> pa.Table:
    """Return the rows of a counted batch as they are at the source."""
    hashes = key_hashes(batch.table, found.key)
    gone = np.isin(hashes, found.gone.get(place, np.empty(0, "S16")))
    if revised is None:
        return batch.table.filter(pa.array(~gone))
    theirs = key_hashes(revised, found.key)
    replaced = np.isin(hashes, theirs)
    kept = batch.table.filter(pa.array(~gone & ~replaced))
    return pa.concat_tables([kept, revised.filter(pa.array(np.isin(theirs, hashes))).cast(kept.schema)])


def _together(ledger: Ledger, declaration: Declaration, chain: Chain) -> bool:
    """Whether rows of several batches may become one batch."""
    if declaration.in_order or chain.head is None:
        return False
    version = chain.head.version
    record = record_of(ledger, version.run_id, version.record, shown(chain.head))
    # A panel's record states nothing of rows: they belong to members.
    rows = record["model"].get("rows", {"add_up": None})
    return rows["add_up"] is True and not version.metrics.get("apart", 0.0)


def new_batches(
    ledger: Ledger, declaration: Declaration, chain: Chain | None, found: Comparison, origin: str
) -> Iterator[Item]:
    """Yield the batches of new rows, in the order of the source.

    Each piece of `split` is one; without `split` all new rows are, up to the limit of a batch. Where nothing
    is new, quarantined batches that wait are offered again: a model that was mended since may take them.
    """
    begun = False
    for name, group in groupby(found.rows(Fate.NEW), key=lambda piece: piece[0]):
        for table in _limited(table for _, table in group):
            begun = True
            yield Item(batch=conformed(table, declaration, name or origin))
    if begun or found.revised or not found.count(Fate.WAITING) or chain is None:
        return
    for version in chain.waiting:
        batch = read_batches(ledger, declaration, [ChainLink(0, version)], held=True)[0]
        if (found.fates[np.isin(found.keys, key_hashes(batch.table, found.key))] == Fate.WAITING).all():
            yield Item(batch=batch)


def _limited(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield tables joined up to the limit of a batch."""
    held, rows, limit = list[pa.Table](), 0, Limits().rows
    for table in tables:
        if held and rows + table.num_rows > limit:
            yield pa.concat_tables(held)
            held, rows = [], 0
        held.append(table)
        rows += table.num_rows
    if held:
        yield pa.concat_tables(held)


def plan_pulled(
    ledger: Ledger,
    declaration: Declaration,
    item: Item,
    source: dict[str, Any],
    head: str | None,
    *,
    accept_model_change: bool = False,
    join: Sequence[str] | None = None,
) -> Plan:
    """Plan a link of a pull: an update, a correction of several batches or a retraction.

    Parameters
    ----------
    source
        Where its rows come from, for the record.
    head
        Record digest of the head that the source was compared with; None where there was no link yet.

    Raises
    ------
    LostRace
        If another writer has moved the head since: what is new may be another by now.
    LindleyError
        As in `plan_update`, `plan_correct` and `plan_retract`.
    """
    if item.batch is None:
        plan = plan_retract(ledger, declaration, item.old, accept_model_change=accept_model_change)
    elif item.old:
        plan = plan_correct(
            ledger, declaration, item.old, item.batch, accept_model_change=accept_model_change
        )
    else:
        plan = plan_update(
            ledger, declaration, item.batch, accept_model_change=accept_model_change, join=join
        )
    found = plan.chain.head.version.record if plan.chain.head is not None else None
    if found != head:
        raise LostRace(
            f"Another writer moved the head of {declaration.name} during the pull",
            expected="the head that the source was compared with",
            found=f"record {str(found)[:12]}",
            todo="pull again: what was registered counts, the rest is compared again",
        )
    return replace(plan, source=source)
