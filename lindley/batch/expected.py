"""What a batch file is expected to hold."""

from __future__ import annotations

from dataclasses import dataclass, field

from lindley.batch.limits import Limits
from lindley.batch.schema import BatchSchema


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What a batch file is expected to hold.

    Parameters
    ----------
    schema
        The declared schema: missing and unexpected columns are refused before the values are read.
    limits
        Bounds on what is read.
    missing
        Spellings of null in text formats beside the empty field (`Declaration.missing`).
    """

    schema: BatchSchema
    limits: Limits = field(default_factory=Limits)
    missing: tuple[str, ...] = ()
