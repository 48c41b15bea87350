"""Register a logged link: create its version, then move the head hint.

Every step can be cut off by a kill: before the version nothing is visible but a run that the next
writer marks abandoned, after it the link is complete and the next writer moves the hint.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lindley import failpoints
from lindley.errors import AccessRefused, LedgerCorrupt
from lindley.ledger.chain import Chain, Version, version_tags
from lindley.ledger.protocol import Ledger, RunStatus
from lindley.ledger.reading import read_chain
from lindley.ledger.record import Status, status_of
from lindley.timing import LOG, REGISTER, TOTAL, metric

if TYPE_CHECKING:
    from lindley.ledger.writing import LoggedLink


@dataclass(frozen=True)
class Registered:
    """The result of registering a link: its status is one of `REGISTERED`, or `Status.SUPERSEDED`."""

    status: Status
    chain: str
    link: int | None
    version: int | None
    run_id: str
    record_digest: str
    run_url: str | None = None
    version_url: str | None = None


def register_link(ledger: Ledger, logged: LoggedLink) -> Registered:
    """Create the version of a logged link and, when it is the new head, point the alias at it.

    The run is closed at the end, with the seconds that were unknown when it was opened. Called again after an
    error, it finds what it made before and continues from there.
    """
    with logged.phases(REGISTER):
        registered = _registered_as(ledger, logged)
    seconds = logged.phases.metrics(LOG, REGISTER) | {metric(TOTAL): logged.phases.total()}
    ledger.close_run(logged.run_id, RunStatus.FINISHED, registered.status, seconds)
    if registered.version is not None:
        failpoints.reach("closed")
    return registered


def _registered_as(ledger: Ledger, logged: LoggedLink) -> Registered:
    """Create the version and move the alias; a lost race has no version."""
    genesis = ledger.genesis(logged.chain)
    if genesis is None:
        raise LedgerCorrupt(
            f"The chain {logged.chain} is gone",
            expected="the registered model that was there when the link was planned",
            found="none",
            todo="find out who deleted it; the link's run and its artifacts are still there",
        )
    chain = read_chain(ledger, logged.chain, genesis)
    # A registration that was cut off after its create is tried again: the head may be its own link.
    found = _version_of(chain, logged)
    new = found is None
    if found is None:
        if _is_late(chain, logged):
            # The race is lost already: a version would only be one more that is no link.
            return _registered(ledger, logged, Status.SUPERSEDED, None, None)
        failpoints.reach("head-checked")
        number = ledger.register(
            logged.chain, logged.run_id, version_tags(logged.record, logged.record_digest), logged.note
        )
        failpoints.reach("versioned")
        chain = read_chain(ledger, logged.chain, genesis)
        # Not by its number: of a create that was sent twice that is the second one's.
        found = _version_of(chain, logged) or (Status.SUPERSEDED, None, number)
    status, link, number = found
    if new and chain.head is not None and chain.head.number == link:
        # Not read first: the link is new, so that it points elsewhere.
        ledger.set_head_hint(logged.chain, number)
    else:
        _move_hint(ledger, logged.chain, chain)
    _move_challenger(ledger, logged.chain, chain)
    failpoints.reach("aliased")
    return _registered(ledger, logged, status, link, number)


def _is_late(chain: Chain, logged: LoggedLink) -> bool:
    """Whether another writer was first: the head moved, or what is decided on was decided."""
    decision = logged.record["decision"]
    if decision is not None and decision["candidate"] in chain.decided:
        return True
    # What is rejected may have been fitted on an earlier head.
    return status_of(logged.record) != Status.REJECTED and chain.head_digest != logged.previous


def _version_of(chain: Chain, logged: LoggedLink) -> tuple[Status, int | None, int] | None:
    """Return status, link and number of the version that a logged link has; None where it has none.

    Its run distinguishes it from the same record of another writer: copies have the same bytes each time.
    """
    mine = (logged.record_digest, logged.run_id)
    found: list[tuple[Status, int | None, Version]] = []
    found += [(Status.ACCEPTED, link.number, link.version) for link in chain.own]
    others = (*chain.quarantined, *chain.candidates, *chain.rejections)
    found += [(version.status, None, version) for version in others]
    found += [(Status.SUPERSEDED, None, version) for version in chain.superseded]
    own = (item for item in found if (item[2].record, item[2].run_id) == mine)
    return next(((status, link, version.number) for status, link, version in own), None)


def complete(ledger: Ledger, name: str, chain: Chain) -> None:
    """Finish what a killed writer left: the aliases, and runs whose process is dead.

    A user who may only read leaves it to the next writer: an audit only reads. A user who may not write gets
    the refusal where the write itself is attempted.
    """
    states = {version.run_id: Status.SUPERSEDED for version in chain.superseded}
    others = (*chain.quarantined, *chain.candidates, *chain.rejections)
    states |= {version.run_id: version.status for version in others}
    states |= {link.version.run_id: Status.ACCEPTED for link in chain.own}
    with suppress(AccessRefused):
        _move_hint(ledger, name, chain)
        _move_challenger(ledger, name, chain)
        for run_id in ledger.dead_runs(name):
            state = states.get(run_id, Status.ABANDONED)
            status = RunStatus.KILLED if state == Status.ABANDONED else RunStatus.FINISHED
            ledger.close_run(run_id, status, state)


def _move_hint(ledger: Ledger, name: str, chain: Chain) -> None:
    """Point the alias at the head where it points elsewhere."""
    head = chain.head
    # Of a branch, the links before its own are versions of another chain.
    if head is not None and chain.own and ledger.head_hint(name) != head.version.number:
        ledger.set_head_hint(name, head.version.number)


def _move_challenger(ledger: Ledger, name: str, chain: Chain) -> None:
    """Point the alias ``challenger`` at the newest candidate that can be approved, or at nothing."""
    if not chain.candidates:
        return
    wanted = chain.pending[-1].number if chain.pending else None
    if ledger.challenger(name) != wanted:
        ledger.set_challenger(name, wanted)


def _registered(
    ledger: Ledger, logged: LoggedLink, status: Status, link: int | None, version: int | None
) -> Registered:
    urls = ledger.urls(logged.chain, logged.run_id, version)
    return Registered(
        status=status,
        chain=logged.chain,
        link=link,
        version=version,
        run_id=logged.run_id,
        record_digest=logged.record_digest,
        run_url=urls.get("run"),
        version_url=urls.get("version"),
    )
