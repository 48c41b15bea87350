"""What became of one batch, as flows and the command line report it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

#: What becomes of rows whose key is counted already.
OnOverlap = Literal["refuse", "drop"]
Status = Literal["accepted", "quarantined", "unchanged", "gone", "unfinished"]


@dataclass(frozen=True, kw_only=True)
class UpdateResult:
    """What became of one batch.

    Parameters
    ----------
    status
        ``accepted``: a new head. ``quarantined``: kept with the reasons, the head stays.
        ``unchanged``: the batch was in the chain already. ``gone``: the file is no longer in the
        landing folder, another run took it. ``unfinished``: its writer has not finished.
    chain, file
        Name of the chain and of the file.
    message
        One sentence for people.
    link, version
        Number of the link in the chain and of the registered version; None where there is none.
    run_id, record_digest, run_url, version_url
        Where the link is; None where there is none.
    reasons
        Why the gate refused the fit.
    stored
        Where the file was archived; None when it was not.
    dropped
        Rows of the file that were left out, because their keys were counted already.
    """

    status: Status
    chain: str
    file: str
    message: str
    link: int | None = None
    version: int | None = None
    run_id: str | None = None
    record_digest: str | None = None
    run_url: str | None = None
    version_url: str | None = None
    reasons: tuple[str, ...] = ()
    stored: str | None = None
    dropped: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return asdict(self) | {"reasons": list(self.reasons)}
