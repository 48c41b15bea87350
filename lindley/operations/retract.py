"""Planning to take batches out of a chain, or to replace one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lindley.batch.batch import Batch
from lindley.errors import AmendmentRefused
from lindley.ledger.chain import Chain, ChainLink, Version
from lindley.ledger.lineage import Origin, belief_of, in_context, read_batches, segments_behind, trusted
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_belief
from lindley.ledger.record import MOST_RETRACTED, Kind
from lindley.ledger.references import choose_batch, shown
from lindley.model.declaration import Declaration
from lindley.operations.amendment import ActPlan, opened
from lindley.operations.overlap import refuse_overlap
from lindley.operations.rebase import imported_link
from lindley.operations.update import quarantined_as, quarantined_with, refuse_model_change
from lindley.seeds import derive_seed
from lindley.timing import FETCH


def plan_retract(
    ledger: Ledger,
    declaration: Declaration,
    batches: Sequence[str],
    *,
    accept_model_change: bool = False,
) -> ActPlan:
    """Plan a chain as if batches had never come.

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
    ActRefused
        If no batch would be left, or what is left would have to be fitted and the policy forbids it.
    ModelRefused
        If a fit is needed and the model's code is not the head's.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    plan = opened(ledger, declaration, Kind.RETRACT)
    chain = plan.chain
    named = list(dict.fromkeys(choose_batch(chain, word).number for word in batches))
    gone = tuple(link for link in chain.at_head if link.number in named)
    if not gone:
        return replace(plan, noop=_not_counted(chain, [chain.links[number - 1] for number in named]))
    left = tuple(link for link in chain.at_head if link.number not in named)
    _refuse_too_much(plan, gone, left)
    plan = replace(plan, retracted=gone)
    tried = _tried(ledger, plan)
    if tried is not None:
        return tried
    start = _start(chain, left, exact=True)
    if start is not None and len(chain.counted(start)) == len(left):
        return replace(plan, target=start)
    return _with_fit(ledger, plan, start, left, accept_model_change)


def plan_correct(
    ledger: Ledger,
    declaration: Declaration,
    old: str,
    batch: Batch,
    *,
    accept_model_change: bool = False,
) -> ActPlan:
    """Plan a chain in which another batch had come in the place of one.

    Parameters
    ----------
    old
        The batch that is replaced; see `lindley.ledger.references.choose_batch`.
    batch
        What counts in its place. It may share row keys with the old one, but with no other batch.

    Raises
    ------
    OverlapRefused
        If rows of the batch are in the chain already, in another batch than the old one.
    UnknownChain, UnknownLink, ActRefused, ModelRefused, LedgerCorrupt
        As in `plan_retract`.
    """
    plan = replace(opened(ledger, declaration, Kind.CORRECT, batch.seconds), batch=batch)
    chain = plan.chain
    replaced = choose_batch(chain, old)
    known = chain.with_batch(batch.digest)
    if known is not None and (known is replaced or chain.taken_out(replaced) is known):
        said = f"{batch.origin} counts already, in link {known.number}; nothing was done"
        return replace(plan, noop=said)
    if replaced not in chain.at_head:
        raise AmendmentRefused(
            f"The batch of {shown(replaced)} does not count any more",
            expected="a batch that the head counts",
            found=_not_counted(chain, [replaced]),
            todo="correct the link that replaced it, or update the chain with the new batch",
        )
    place = chain.at_head.index(replaced)
    earlier, later = chain.at_head[:place], chain.at_head[place + 1 :]
    refuse_overlap(ledger, (*earlier, *later), batch)
    plan = replace(plan, retracted=(replaced,))
    tried = _tried(ledger, plan)
    if tried is not None:
        return tried
    start = _start(chain, earlier, exact=False)
    return _with_fit(ledger, plan, start, (*earlier, *later), accept_model_change, place)


def _start(chain: Chain, wanted: Sequence[ChainLink], *, exact: bool) -> ChainLink | None:
    """Return the newest link that counts the first ones of what is wanted, as many as possible.

    Its match must be trusted, unless it counts all of them and `exact` says that its belief is then taken
    as it is. None: genesis.
    """
    best, most = imported_link(chain), 0
    numbers = [link.number for link in wanted]
    for link in reversed(chain.links):
        counted = [other.number for other in chain.counted(link)]
        whole = exact and len(counted) == len(numbers)
        if len(counted) > most and counted == numbers[: len(counted)] and (whole or trusted(link)):
            best, most = link, len(counted)
    return best


def _with_fit(
    ledger: Ledger,
    plan: ActPlan,
    start: ChainLink | None,
    left: Sequence[ChainLink],
    accept_model_change: bool,
    place: int | None = None,
) -> ActPlan:
    """Read what will be fitted: the batches that the start has not seen, the new one at its place."""
    _refuse_pooling(plan, start)
    with plan.phases(FETCH):
        return _read(ledger, plan, start, left, accept_model_change, place)


def _read(
    ledger: Ledger,
    plan: ActPlan,
    start: ChainLink | None,
    left: Sequence[ChainLink],
    accept_model_change: bool,
    place: int | None,
) -> ActPlan:
    """Read it."""
    chain, declaration = plan.chain, plan.declaration
    record, head = read_belief(ledger, plan.head_link)
    if not accept_model_change:
        refuse_model_change(declaration, record, chain)
    seen = chain.counted(start)
    origin = Origin(start, tuple(left[len(seen) :]))
    batches = list(read_batches(ledger, declaration, origin.links))
    own = None if place is None else place - len(seen)
    if own is not None and plan.batch is not None:
        batches.insert(own, plan.batch)
    fitted = in_context(ledger, declaration, seen, batches)
    batch = None if own is None else fitted[own]
    return replace(
        plan,
        origin=origin,
        prior=belief_of(ledger, start),
        head=head,
        batch=batch,
        batches=fitted,
        behind=segments_behind(ledger, declaration, chain, start),
        seed=derive_seed(head.matched.digest, batch.digest if batch else plan.kind, declaration.model_digest),
    )


def _refuse_pooling(plan: ActPlan, start: ChainLink | None) -> None:
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


def _refuse_too_much(plan: ActPlan, gone: Sequence[ChainLink], left: Sequence[ChainLink]) -> None:
    """Refuse to leave nothing, and to take out more than a version's tag can name."""
    name = plan.declaration.name
    if not left and imported_link(plan.chain) is None:
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


def _tried(ledger: Ledger, plan: ActPlan) -> ActPlan | None:
    """Return a plan with nothing to do where the same act of this code failed the gate on this very head."""

    def same(version: Version) -> bool:
        gone = {link.version.record for link in plan.retracted}
        batch = plan.batch.digest if plan.batch else ""
        at_head = version.previous == plan.head_link.version.record
        return (
            at_head and version.kind == plan.kind and (set(version.retracted), version.batch) == (gone, batch)
        )

    here = [version for version in plan.chain.quarantined if same(version)]
    found = quarantined_with(ledger, plan.declaration, here)
    if found is None:
        return None
    said = f"The same was tried on this head before and {quarantined_as(found)}"
    return replace(plan, noop=said, quarantined=True)


def _not_counted(chain: Chain, links: Sequence[ChainLink]) -> str:
    """Say why links do not count."""
    parts = []
    for link in links:
        taker = chain.taken_out(link)
        why = f"was taken out by link {taker.number}" if taker else "came after what the chain went back to"
        parts.append(f"{shown(link)} {why}")
    return f"{'; '.join(parts)}; nothing was done"
