"""What became of a chain, as flows and the command line report it: one result for every kind of link."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Literal

#: What becomes of rows whose key is counted already.
OnOverlap = Literal["refuse", "drop"]


class Status(StrEnum):
    """What became of a chain."""

    #: There is a new head.
    ACCEPTED = "accepted"
    #: The fit failed the gate: it is kept with the reasons, the head stays.
    QUARANTINED = "quarantined"
    #: The fit passed the gate, and a person has to approve it: the head stays.
    CANDIDATE = "candidate"
    #: A person decided against it: the head stays.
    REJECTED = "rejected"
    #: A person has to decide on a candidate first: nothing was done, a file that landed stays.
    HELD = "held"
    #: There was nothing to do.
    UNCHANGED = "unchanged"
    #: The chain was compared with the pooled refit, and nothing was registered.
    AUDITED = "audited"
    #: The file is no longer in the landing folder: another run took it.
    GONE = "gone"
    #: The writer of the file has not finished.
    UNFINISHED = "unfinished"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What became of a chain.

    Parameters
    ----------
    status
        See `Status`.
    chain, kind
        Name of the chain, and kind of the link that was asked for (see `lindley.ledger.record.Kind`).
    message
        One sentence for people.
    file
        Name of the file; None for kinds without one.
    link, version
        Number of the new link in the chain and of the registered version; None where there is none.
    run_id, record_digest, run_url, version_url
        Where the link is; None where there is none.
    reasons, warnings
        Why the gate refused the fit, and what to watch although it passed.
    highlights
        What matters of the fit beside that, in sentences (see `lindley.report.tables.highlights`).
    seconds
        What the link took, up to its registration: the estimate for the next one. None without one.
    fitted
        How many batches were fitted together; 0 where none was, or an earlier belief was taken.
    retracted
        Numbers of the links whose batches no longer count.
    joined
        Files of the quarantined batches that count from the new link on.
    stored
        Where the file was archived; None when it was not.
    dropped
        Rows of the file that were left out, because their keys were counted already.
    notes
        What was found out before the first fit of a model, and what limits an audit, in sentences.
    metrics
        Scalar results of the fit; of an audit those of the comparison with the head.
    pulled
        Of a pull: ``address``, ``version`` and ``since`` of the source, ``rows`` by what became of them, and
        the numbers of the new ``links``.
    rows
        Of a pooled refit: one row per parameter (see `lindley.operations.audit.audit_table`).
    """

    status: Status
    chain: str
    kind: str
    message: str
    file: str | None = None
    link: int | None = None
    version: int | None = None
    run_id: str | None = None
    record_digest: str | None = None
    run_url: str | None = None
    version_url: str | None = None
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    highlights: tuple[str, ...] = ()
    seconds: float | None = None
    fitted: int = 0
    retracted: tuple[int, ...] = ()
    joined: tuple[str, ...] = ()
    stored: str | None = None
    dropped: int = 0
    notes: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    pulled: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        listed = ("reasons", "warnings", "highlights", "retracted", "joined", "notes")
        return asdict(self) | {name: list(getattr(self, name)) for name in listed}
