"""Plan what a person decided on a candidate, or on a quarantined version: approved or rejected.

An approved version becomes the head with the belief that was fitted: its record is repeated, with the
decision. A rejection is a version as well, so that of two decisions at once the first one registered holds.
"""

from __future__ import annotations

from dataclasses import replace

from lindley.errors import DecisionRefused, not_of_panels
from lindley.ledger.chain import Chain, ChainLink, Version
from lindley.ledger.lineage import read_batches
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import genesis_of, read_chain
from lindley.ledger.record import APPROVED, Kind
from lindley.model.declaration import Declaration
from lindley.names import printable
from lindley.operations.approval.candidates import (
    MOST_WHO,
    MOST_WHY,
    choose_version,
    counting,
    stated,
    verdict_of,
)
from lindley.operations.plan import Decision, Plan
from lindley.operations.planner import on_chain
from lindley.timing import FETCH, Phases


def plan_decision(
    ledger: Ledger, declaration: Declaration, version: str, *, approve: bool, who: str, why: str
) -> Plan:
    """Plan to approve or to reject a version that is no link.

    Parameters
    ----------
    version
        Its number, the beginning of its record's digest, or empty: the only candidate without a decision.
    approve
        Whether it becomes the head.
    who, why
        Who decides so, and why.

    Raises
    ------
    PanelRefused
        If the chain is a panel.
    UnknownChain, UnknownLink
        If there is no such chain or version, or several candidates and none is named.
    DecisionRefused
        If it cannot be decided so: the opposite was decided before, the head moved since the fit, its batch
        counts already, or who or why is missing.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    if declaration.by:
        raise not_of_panels(declaration.name, "a person decides on no version of it")
    who, why = _text("who decides", who, MOST_WHO), _text("why", why, MOST_WHY)
    phases = Phases()
    with phases(FETCH):
        genesis = genesis_of(ledger, declaration.name)
        chain = read_chain(ledger, declaration.name, genesis)
        chosen = choose_version(chain, version)
        plan = on_chain(ledger, declaration, Kind(chosen.kind), (chain, genesis))
        plan = replace(plan, phases=phases)
        decision = Decision(version=chosen, approved=approve, who=who, why=why)
        done = _decided(chain, decision)
        if done is not None:
            return replace(plan, noop=done)
        _refuse_counted(chain, decision)
        if approve:
            _refuse_stale(declaration.name, chain, chosen)
        own = (ChainLink(0, chosen),) if chosen.batch else ()
        batches = read_batches(ledger, declaration, own)
    retracted = tuple(chain.brought[taken] for taken in chosen.retracted if taken in chain.brought)
    waiting = {other.record: ChainLink(0, other) for other in chain.quarantined}
    return replace(
        plan,
        decision=decision,
        batch=batches[0] if batches else None,
        retracted=retracted + tuple(waiting[taken] for taken in chosen.retracted if taken in waiting),
        joined=tuple(waiting[record] for record in chosen.joined if record in waiting),
    )


def _text(what: str, text: str, most: int) -> str:
    """Return what a person stated, in characters that a terminal can show.

    Raises
    ------
    DecisionRefused
        If it is empty or too long.
    """
    found = printable(text.strip())
    if 0 < len(found) <= most:
        return found
    raise DecisionRefused(
        "A decision needs a name and a reason",
        expected=f"{what}, in 1 to {most} characters",
        found=f"{len(found)} characters",
        todo="give --why (and --who where the name of the account is not yours)",
    )


def _decided(chain: Chain, decision: Decision) -> str | None:
    """State what was decided before, where it was the same; None where nothing was.

    Raises
    ------
    DecisionRefused
        If it was the opposite.
    """
    before = chain.decided.get(decision.version.record)
    if before is None:
        return None
    verdict = verdict_of(chain, before)
    known = stated(chain, decision.version, before)
    if verdict == decision.verdict:
        return f"{known}; nothing was done"
    undo = "update the chain with its file again when the head has moved"
    raise DecisionRefused(
        known,
        expected="a version without a decision",
        found=f"{verdict} (version {before.number})",
        todo="`lindley retract` or `lindley rollback` takes it out" if verdict == APPROVED else undo,
    )


def _refuse_counted(chain: Chain, decision: Decision) -> None:
    """Refuse to decide on what counts already, and to approve a fit with batches that were rejected since."""
    version = decision.version
    link = counting(chain, version)
    if link is not None:
        raise DecisionRefused(
            f"The batch of version {version.number} counts already",
            expected="a version whose batch does not count",
            found=f"{version.origin} in link {link.number}",
            todo="nothing; `lindley retract` takes a batch out",
        )
    gone = [record for record in version.joined if record in chain.decided]
    if decision.approved and gone:
        raise DecisionRefused(
            f"Version {version.number} was fitted with batches that were decided on since",
            expected="a fit whose batches may all count",
            found=f"{len(gone)} of {len(version.joined)} were decided on",
            todo="reject it, and update the chain with its file again",
        )


def _refuse_stale(name: str, chain: Chain, version: Version) -> None:
    """Refuse to approve a fit on a head that has moved since."""
    if version.previous == chain.head_digest:
        return
    again = {Kind.UPDATE: f"`lindley update {name} FILE` with {version.origin}, from the store"}
    raise DecisionRefused(
        f"The head of {name} moved since version {version.number} was fitted",
        expected=f"a fit on the head, {chain.head_digest[:12]}",
        found=f"one on {version.previous[:12]}",
        todo="fit it again on the new head ("
        + again.get(Kind(version.kind), f"`lindley {version.kind} {name}`")
        + "), then approve that",
    )
