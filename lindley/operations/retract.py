"""Plan to retract batches of a chain, or to replace some by one.

What is left is fitted together on the newest belief that has seen none of what goes, or, where an earlier
link counts exactly that, is that link's belief. Nothing is deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lindley.batch.batch import Batch
from lindley.batch.row_keys import changes_between
from lindley.errors import AmendmentRefused
from lindley.ledger.chain import Chain, ChainLink, records_of
from lindley.ledger.lineage import Origin, rows_of, trusted
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_rows
from lindley.ledger.record import MOST_RETRACTED, Kind
from lindley.ledger.references import choose_batch, shown
from lindley.model.declaration import Declaration
from lindley.operations.overlap import refuse_overlap
from lindley.operations.panel.amend import amended
from lindley.operations.plan import Plan
from lindley.operations.planner import as_known, on_begun, read_head, tried_before, with_fit, with_structure
from lindley.operations.rebase import imported_link
from lindley.timing import FETCH


def plan_retract(
    ledger: Ledger,
    declaration: Declaration,
    batches: Sequence[str],
    *,
    accept_model_change: bool = False,
) -> Plan:
    """Plan to retract batches: the chain becomes what it would be if they had never come.

    A quarantined batch that waits can be named too: it then does not join any more.

    Parameters
    ----------
    ledger, declaration
        Where the chain is kept, and its declaration.
    batches
        Which ones; see `lindley.ledger.references.choose_batch`.
    accept_model_change
        Go on although the model's code is not the head's.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain or batch.
    AmendmentRefused
        If no batch would be left, or what is left would have to be fitted and the policy forbids it.
    ModelRefused
        If a fit is needed and the model's code is not the head's.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    plan = on_begun(ledger, declaration, Kind.RETRACT)
    chain = plan.chain
    named = {chosen.version.record: chosen for chosen in (choose_batch(chain, word) for word in batches)}
    waiting = tuple(chosen for chosen in named.values() if not chosen.number)
    gone = tuple(link for link in chain.at_head if link.version.record in named)
    if not gone and not waiting:
        return replace(plan, noop=_not_counted(chain, list(named.values())))
    left = tuple(link for link in chain.at_head if link.version.record not in named)
    _refuse_too_much(plan, (*gone, *waiting), left)
    plan = replace(plan, retracted=(*gone, *waiting))
    if not gone:  # quarantined batches that are not to join: the belief stays
        return replace(plan, target=chain.head)
    tried = tried_before(ledger, plan, _TRIED)
    if tried is not None:
        return tried
    start = _whole(chain, left)
    if start is not None:
        return replace(plan, target=start)
    if declaration.by:
        _refuse_pooling(plan, None)
        return amended(ledger, plan, left, accept_model_change=accept_model_change)
    start = _start(plan, left, rows_of(left), apart=_apart(chain))
    return _with_fit(ledger, plan, start, left, accept_model_change)


def plan_correct(
    ledger: Ledger,
    declaration: Declaration,
    old: str | Sequence[str],
    batch: Batch,
    *,
    accept_model_change: bool = False,
) -> Plan:
    """Plan to correct batches: the chain becomes what it would be if another had come in their place.

    Parameters
    ----------
    old
        The batch that is replaced, or several; see `lindley.ledger.references.choose_batch`.
    batch
        What counts in their place: where the first of them counted. It may share row keys with them, but with
        no other batch.

    Raises
    ------
    OverlapRefused
        If rows of the batch are in the chain already, in another batch than the old ones.
    UnknownChain, UnknownLink, AmendmentRefused, ModelRefused, LedgerCorrupt
        As in `plan_retract`.
    """
    plan = on_begun(ledger, declaration, Kind.CORRECT, batch)
    chain = plan.chain
    words = [old] if isinstance(old, str) else list(old)
    replaced = {chosen.version.record: chosen for chosen in (choose_batch(chain, word) for word in words)}
    known = chain.with_batch(batch.digest)
    if known is not None and all(
        known is link or chain.taken_out(link) is known for link in replaced.values()
    ):
        noop = f"{batch.origin} counts already, in link {known.number}; nothing was done"
        return replace(plan, noop=noop)
    _refuse_uncounted(chain, list(replaced.values()))
    places = [place for place, link in enumerate(chain.at_head) if link.version.record in replaced]
    gone = tuple(chain.at_head[place] for place in places)
    place = places[0]
    earlier = chain.at_head[:place]
    later = tuple(link for link in chain.at_head[place:] if link not in gone)
    _refuse_too_much(plan, gone, (*earlier, *later), replacement=True)
    refuse_overlap(ledger, (*earlier, *later), batch)
    changes = changes_between(batch.table, batch.key, [read_rows(ledger, link) for link in gone])
    plan = replace(plan, retracted=gone, batch=replace(batch, changes=changes))
    tried = tried_before(ledger, plan, _TRIED)
    if tried is not None:
        return tried
    if declaration.by:
        _refuse_pooling(plan, None)
        both = (*earlier, *later)
        return amended(ledger, plan, both, place=place, accept_model_change=accept_model_change)
    rows = rows_of((*earlier, *later)) + batch.rows
    start = _start(plan, earlier, rows, apart=_apart(chain), later=len(later) + 1)
    return _with_fit(ledger, plan, start, (*earlier, *later), accept_model_change, place)


def _refuse_uncounted(chain: Chain, replaced: Sequence[ChainLink]) -> None:
    """Refuse to replace batches that do not count."""
    stray = [link for link in replaced if link not in chain.at_head]
    if stray or not replaced:
        raise AmendmentRefused(
            f"The batch of {shown(stray[0])} does not count any more" if stray else "No batch is named",
            expected="a batch that the head counts",
            found=_not_counted(chain, stray) if stray else "none",
            todo="correct the link that replaced it, or update the chain with the new batch",
        )


_TRIED = "The same was tried"


def _whole(chain: Chain, wanted: Sequence[ChainLink]) -> ChainLink | None:
    """Return the newest link that counts exactly what is wanted; its belief is taken as it is."""
    wanted_records = records_of(wanted)
    for link in reversed(chain.links):
        if records_of(chain.counted(link)) == wanted_records:
            return link
    return None


def _start(
    plan: Plan, wanted: Sequence[ChainLink], rows: int, *, apart: bool, later: int = 0
) -> ChainLink | None:
    """Return the link that a fit of what is wanted, and of what comes later, starts from. None: genesis.

    A link that counts the first ones of what is wanted, and whose match is trusted: the oldest from which on
    an update may fit all the rest; where there is none, the newest.

    Parameters
    ----------
    rows
        Rows of all that is wanted, and of what comes later.
    apart
        Whether batches are fitted one by one.
    later
        Number of batches that come later.
    """
    chain, window = plan.chain, plan.declaration.policy.window
    wanted_records = records_of(wanted)
    found: list[tuple[int, ChainLink | None]] = [(0, imported_link(chain))]
    for link in chain.links:
        counted = records_of(chain.counted(link))
        if counted and counted == wanted_records[: len(counted)] and trusted(link):
            found.append((len(counted), link))
    found.sort(key=lambda item: item[0])
    for seen, start in found:
        left = rows - rows_of(wanted[:seen])
        if window.holds(left, len(wanted) - seen + later - 1, apart):
            return start
    return found[-1][1]


def _apart(chain: Chain) -> bool:
    """Whether the head's batches were fitted one by one."""
    return chain.head is not None and chain.head.version.metrics.get("apart", 0.0) > 0


def _with_fit(
    ledger: Ledger,
    plan: Plan,
    start: ChainLink | None,
    left: Sequence[ChainLink],
    accept_model_change: bool,
    place: int | None = None,
) -> Plan:
    """Read what will be fitted: the batches that the start has not seen, the new one at its place."""
    _refuse_pooling(plan, start)
    with plan.phases(FETCH):
        record, head = read_head(ledger, plan, accept_model_change=accept_model_change)
        plan = as_known(plan, record)
        seen = len(plan.chain.counted(start))
        origin = Origin(start, tuple(left[seen:]))
        plan = with_fit(ledger, plan, origin, head, None if place is None else place - seen)
    return with_structure(ledger, plan, None if accept_model_change else record)


def _refuse_pooling(plan: Plan, start: ChainLink | None) -> None:
    """Refuse to fit batches together that the policy lets count for less, one after the other."""
    policy, name = plan.declaration.policy, plan.declaration.name
    if not policy.forget and not policy.robust:
        return
    back = f"`lindley rollback {name} {start.number}`" if start else "a new chain"
    raise AmendmentRefused(
        f"{name} {'forgets old data' if policy.forget else 'mixes its beliefs with the first priors'}",
        expected="a chain whose belief is that of all its batches, which can then be fitted together",
        found=f"a policy with `{'forget' if policy.forget else 'robust'}`, and batches that came later",
        todo=f"{back}, then update the chain with the later batches again, from the store",
    )


def _refuse_too_much(
    plan: Plan, gone: Sequence[ChainLink], left: Sequence[ChainLink], *, replacement: bool = False
) -> None:
    """Refuse to leave nothing, and to take out more than a version's tag can name."""
    name = plan.declaration.name
    if not left and not replacement and imported_link(plan.chain) is None:
        raise AmendmentRefused(
            f"Nothing would be left of {name}",
            expected="at least one batch that still counts",
            found=f"{len(gone)} batches, all to be taken out",
            todo="start a new chain under another name, or correct the batch instead",
        )
    if len(gone) > MOST_RETRACTED:
        raise AmendmentRefused(
            f"{len(gone)} batches are too many for one link",
            expected=f"{MOST_RETRACTED} at most",
            found=str(len(gone)),
            todo="take them out in several steps, or roll back to an earlier link",
        )


def _not_counted(chain: Chain, links: Sequence[ChainLink]) -> str:
    """State why links do not count."""
    parts = []
    for link in links:
        taker = chain.taken_out(link)
        why = f"was taken out by link {taker.number}" if taker else "came after what the chain went back to"
        parts.append(f"{shown(link)} {why}")
    return f"{'; '.join(parts)}; nothing was done"
