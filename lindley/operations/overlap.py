"""Which rows and batches an update counts.

Rows whose key is counted already are refused, or left out of the batch on request. Quarantined batches that
wait join the fit of a later update, or have their place taken by a batch with all their rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import compress
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from lindley.batch.batch import Batch, Dropped
from lindley.batch.digest import content_digest
from lindley.batch.row_keys import ranges_disjoint, shared_keys, split_by_keys
from lindley.errors import BatchRefused, GapRefused, OverlapRefused
from lindley.ledger.chain import ChainLink
from lindley.ledger.lineage import read_batches
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_rows, record_of
from lindley.ledger.record import MOST_JOINED, Kind
from lindley.ledger.references import shown
from lindley.model.declaration import BY_POSITION, Declaration
from lindley.operations.plan import Plan

#: What becomes of rows whose key is counted already.
REFUSE, DROP = "refuse", "drop"


def refuse_overlap(ledger: Ledger, links: Sequence[ChainLink], batch: Batch) -> None:
    """Refuse rows whose key is in one of the counted links already.

    Raises
    ------
    OverlapRefused
        Naming the link and the first shared keys.
    LedgerCorrupt
        If the rows of a link that may share keys are not those that it counted.
    """
    for link, shared in _overlaps(ledger, links, batch):
        examples = "; ".join(_shown(row) for row in shared.slice(0, 3).to_pylist())
        raise OverlapRefused(
            f"{batch.origin} shares {shared.num_rows} row keys with link {link.number}",
            expected="rows that no earlier batch holds, so that none is counted twice",
            found=f"{examples[:300]}, already in {link.version.origin}",
            todo="drop these rows from the file and drop it again, or pass --on-overlap drop; "
            "`lindley correct` replaces a batch",
        )


def without_overlap(ledger: Ledger, links: Sequence[ChainLink], batch: Batch) -> Batch | None:
    """Return a batch without the rows whose key is in one of the counted links already.

    Returns
    -------
    Batch or None
        The batch itself where none is; None where all are. What was left out is in its `dropped`.

    Raises
    ------
    LedgerCorrupt
        If the rows of a link that may share keys are not those that it counted.
    """
    found = list(_overlaps(ledger, links, batch))
    if not found:
        return batch
    kept, dropped = split_by_keys(batch.table, batch.key, pa.concat_tables([shared for _, shared in found]))
    if not kept.num_rows:
        return None
    left_out = Dropped(
        rows=dropped.num_rows,
        digest=content_digest(dropped),
        links=tuple(link.version.record for link, _ in found),
    )
    return replace(batch, table=kept, digest=content_digest(kept), dropped=left_out)


def with_joined(ledger: Ledger, plan: Plan, join: Sequence[str] | None) -> Plan:
    """Return the plan of an update with the waiting batches that count from its link on.

    They are fitted together with the update's own batch. A waiting batch whose rows are all in this one, or
    in a newer one that waits, is taken out: that one has come in its place.

    Parameters
    ----------
    join
        Record digests of the versions that join; by default those that are due (see `_due`).

    Raises
    ------
    OverlapRefused
        If a waiting batch has some rows of the new batch, and others.
    BatchRefused
        If batches continue from one another and the new one is older than what counts.
    GapRefused
        If they do, and one that came before it does not join.
    """
    own, in_order = plan.batch, plan.in_order
    if own is None:
        return plan
    waiting = [ChainLink(0, version) for version in plan.chain.waiting]
    digests = [link.version.batch for link in waiting]
    # A batch that waits itself, and comes again, comes in its place.
    before = waiting[: digests.index(own.digest)] if in_order and own.digest in digests else waiting
    others = [link for link in before if link.version.batch != own.digest]
    taken, mixed = _taken(ledger, plan, others)
    able = [link for link in others if link not in taken and link not in mixed]
    chosen = _due(ledger, plan, able) if join is None else [i for i in others if i.version.record in join]
    plan = replace(
        plan,
        retracted=tuple(taken),
        joined=tuple(ChainLink(plan.link, link.version) for link in chosen),
    )
    if in_order:
        _refuse_gap(plan, [link for link in others if link not in taken and link not in chosen])
        _refuse_late(ledger, plan, own)
    return plan


def _taken(
    ledger: Ledger, plan: Plan, waiting: Sequence[ChainLink]
) -> tuple[list[ChainLink], list[ChainLink]]:
    """Return the waiting batches whose place another one takes, and those that share only some rows.

    Raises
    ------
    OverlapRefused
        If one that may join shares only some rows with the plan's own batch.
    """
    taken, mixed = list[ChainLink](), list[ChainLink]()
    own = plan.batch
    if own is None or own.key == BY_POSITION:
        return [], []
    newer = [own]
    for link in reversed(waiting):
        near = [batch for batch in newer if not ranges_disjoint(batch.key_ranges(), link.version.key_ranges)]
        rows = read_rows(ledger, link) if near else None
        shared = [] if rows is None else [shared_keys(b.table, b.key, rows).num_rows for b in near]
        if rows is not None and max(shared) == rows.num_rows:
            taken.insert(0, link)
            continue
        if any(shared):
            if near[0] is own and shared[0] and _joins(plan):
                raise _partly(own, link, shared[0])
            mixed.append(link)
        found = _readable(ledger, plan, link)
        newer += [found] if found is not None else []
    return taken, mixed


def _partly(batch: Batch, link: ChainLink, shared: int) -> OverlapRefused:
    return OverlapRefused(
        f"{batch.origin} shares {shared} row keys with {shown(link)}, which waits to be counted",
        expected="none of its rows, or all of them: the batch then takes its place",
        found=f"{shared} of {link.version.rows}",
        todo="correct the file, or take the quarantined batch out: `lindley retract` with its file's name",
    )


def _due(ledger: Ledger, plan: Plan, waiting: Sequence[ChainLink]) -> list[ChainLink]:
    """Return the waiting batches that join now, oldest first.

    Where batches continue from one another all do. Elsewhere all join right after one was quarantined; after
    that each is tried once 2, 4, 8, ... versions were made since it was quarantined, so that a batch that
    never fits costs less and less. One that was refused because it conflicts does not join, nor one with
    rows that count by now, or that does not fit the schema any more.
    """
    policy, chain = plan.declaration.policy, plan.chain
    if not waiting or not _joins(plan):
        return []
    apart = (*chain.quarantined, *chain.candidates, *chain.rejections, *chain.superseded)
    made = [*(link.version for link in chain.own), *apart]
    coming = 1 + max(version.number for version in made)
    last = max(version.number for version in made if version.kind == Kind.UPDATE)
    found = list(waiting)
    if not plan.in_order and last > found[-1].version.number:
        # A power of two lies between the update before and this one; other kinds of links take numbers too.
        ages = [(last - link.version.number, coming - link.version.number) for link in found]
        due = [now.bit_length() > before.bit_length() for before, now in ages]
        found = list(compress(found, due))
    found = [link for link in found if _may_join(ledger, plan, link)]
    return found[: min(policy.window.batches, MOST_JOINED)]


def _joins(plan: Plan) -> bool:
    """Whether waiting batches may join at all."""
    policy = plan.declaration.policy
    return policy.join_quarantined and policy.window.batches > 0


def _may_join(ledger: Ledger, plan: Plan, link: ChainLink) -> bool:
    """Whether a waiting batch was refused for its sampling only, can be read, and has no counted rows."""
    version = link.version
    record = record_of(ledger, version.run_id, version.record, shown(link))
    limit = record["thresholds"].get("conflict_warn", 0.0)
    if record["policy"]["conflict"] == "quarantine" and record["metrics"].get("conflict_p", 1.0) < limit:
        return False
    batch = _readable(ledger, plan, link)
    return batch is not None and next(_overlaps(ledger, plan.chain.at_head, batch), None) is None


def _readable(ledger: Ledger, plan: Plan, link: ChainLink) -> Batch | None:
    """Return a waiting batch; None where it does not fit the declaration any more."""
    try:
        return read_batches(ledger, plan.declaration, [link])[0]
    except BatchRefused:
        return None


def _refuse_gap(plan: Plan, missing: Sequence[ChainLink]) -> None:
    """Refuse an update of a chain with state or context from which batches in between would be missing."""
    if not missing or plan.batch is None:
        return
    name, first = plan.declaration.name, missing[0].version
    raise GapRefused(
        f"{plan.batch.origin} cannot follow {shown(missing[0])}, which does not count",
        expected="every batch in its place: each one continues from the state or the rows before it",
        found="; ".join(first.reasons)[:400] or "a fit that failed the gate",
        todo=f"mend the model or the file and update {name} with {first.origin} again; or leave it out, and "
        f"the record says so: `lindley retract {name} {first.origin}`",
    )


def _refuse_late(ledger: Ledger, plan: Plan, batch: Batch) -> None:
    """Refuse a batch with rows before the newest ones, which would be taken for what comes after them.

    Raises
    ------
    BatchRefused
        If its first time is before the last one that counts.
    """
    counted, column = (*plan.chain.at_head, *plan.joined), _time_column(batch, plan.declaration)
    if column is None or not counted:
        return
    table = read_rows(ledger, counted[-1])
    if column not in table.column_names:
        return
    first, last = pc.min(batch.table[column]), pc.max(table[column].cast(batch.table[column].type))
    if first.is_valid and last.is_valid and first.as_py() < last.as_py():
        raise BatchRefused(
            f"{batch.origin} comes late: {plan.declaration.name} continues from the newest rows",
            expected=f"{column} of {last} or later, after {counted[-1].version.origin}",
            found=f"{column} from {first} on",
            todo=f"start again before it: `lindley rollback {plan.declaration.name} LINK`, then update with "
            "this file and the later ones in their order; or `lindley correct` the batch that lacks the rows",
        )


def _time_column(batch: Batch, declaration: Declaration) -> str | None:
    """Return the column that orders batches: the only time of `order_by`, its only column, or the key's time.

    The only column of a row key orders batches as well, if it holds numbers and there is no `order_by`.
    """
    order, key = (
        declaration.order_by or (),
        [name for name in declaration.row_key if name in batch.table.column_names],
    )

    def times(names: Sequence[str]) -> list[str]:
        return [name for name in names if pa.types.is_temporal(batch.table[name].type)]

    numbers = [name for name in key if not order and pa.types.is_integer(batch.table[name].type)]
    choices = (times(order), order, times(key), numbers if len(key) == 1 else ())
    return next((choice[0] for choice in choices if len(choice) == 1), None)


def _overlaps(
    ledger: Ledger, links: Sequence[ChainLink], batch: Batch
) -> Iterator[tuple[ChainLink, pa.Table]]:
    """Give each link that shares row keys with a batch, and these keys."""
    mine = batch.key_ranges()
    for link in links if batch.key != BY_POSITION else ():
        if ranges_disjoint(mine, link.version.key_ranges):
            continue
        shared = shared_keys(batch.table, batch.key, _counted_rows(ledger, link))
        if shared.num_rows:
            yield link, shared


def _counted_rows(ledger: Ledger, link: ChainLink) -> pa.Table:
    """Return the rows that a link counts: those of members that it quarantined do not."""
    rows = read_rows(ledger, link)
    if not link.version.metrics.get("members_quarantined"):
        return rows
    from lindley.panel.reading import counted_rows  # saves start-up time of chains with one belief

    return counted_rows(ledger, link, rows)


def _shown(key: dict[str, Any]) -> str:
    """Return a row key for a message; a digest of all values by its first digits."""
    values = {name: value.hex()[:12] if isinstance(value, bytes) else value for name, value in key.items()}
    return ", ".join(f"{name}={value}" for name, value in values.items())
