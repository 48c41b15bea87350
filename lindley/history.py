"""The chain as people read it: one view per version, oldest first."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from lindley.chain import Chain, Link, Version
from lindley.ledger.protocol import Ledger
from lindley.reading import find_chain


@dataclass(frozen=True)
class LinkView:
    """One version of a chain.

    Parameters
    ----------
    number
        Place in the chain; None for a version that is no link.
    status
        ``accepted``, ``quarantined`` or ``superseded``.
    created
        When it was registered, ISO 8601 in UTC, as the registry says.
    counted
        Whether the head counts its own batch.
    retracted
        Numbers of the links whose batches it takes out.
    taken_out_by
        Number of the link that took its batch out; None where none did.
    """

    number: int | None
    version: int
    kind: str
    status: str
    record_digest: str
    previous: str
    prior: str
    batch_digest: str
    origin: str
    rows: int
    run_id: str
    created: str
    reasons: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    counted: bool = False
    retracted: tuple[int, ...] = ()
    taken_out_by: int | None = None


def history(ledger: Ledger, name: str, *, every: bool = False) -> list[LinkView]:
    """Return a chain's links, oldest first.

    Parameters
    ----------
    ledger
        Where the chain is kept.
    name
        The chain.
    every
        Also quarantined and superseded versions, in version order.

    Raises
    ------
    UnknownChain
        If there is no such chain.
    """
    chain = find_chain(ledger, name)
    counted = {link.number for link in chain.at_head}
    views = [_link_view(chain, link, link.number in counted) for link in chain.links]
    if not every:
        return views
    own = [_view(version, None, "quarantined") for version in chain.quarantined]
    own += [_view(version, None, "superseded") for version in chain.superseded]
    # Those that a branch continues are versions of another chain, with numbers of their own.
    return [*views[: chain.base], *sorted([*views[chain.base :], *own], key=lambda view: view.version)]


def _link_view(chain: Chain, link: Link, counted: bool) -> LinkView:
    """Return the view of a link."""
    gone = [chain.link_of(record) for record in link.version.retracted]
    taker = chain.taken_out(link)
    return replace(
        _view(link.version, link.number, "accepted"),
        counted=counted,
        retracted=tuple(other.number for other in gone if other is not None),
        taken_out_by=taker.number if taker is not None and not counted else None,
    )


def _view(version: Version, number: int | None, status: str) -> LinkView:
    return LinkView(
        number=number,
        version=version.number,
        kind=version.kind,
        status=status,
        record_digest=version.record,
        previous=version.previous,
        prior=version.prior,
        batch_digest=version.batch,
        origin=version.origin,
        rows=version.rows,
        run_id=version.run_id,
        created=version.created,
        reasons=version.reasons,
        metrics=version.figures,
    )
