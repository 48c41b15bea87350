"""The chain as people read it: one view per version, oldest first."""

from __future__ import annotations

from dataclasses import dataclass, field

from lindley.chain import Version
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
    views = [_view(link.version, link.number, "accepted") for link in chain.links]
    if every:
        views += [_view(version, None, "quarantined") for version in chain.quarantined]
        views += [_view(version, None, "superseded") for version in chain.superseded]
    return sorted(views, key=lambda view: view.version)


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
