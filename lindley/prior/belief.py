"""What passes from link to link."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lindley.prior.matched import MatchedPrior


@dataclass(frozen=True)
class Belief:
    """What passes from link to link.

    Parameters
    ----------
    matched
        The posterior's matched prior.
    budget
        Accumulated (d+1)/ESS of the matches that led here.
    trusted
        Whether the match is good enough to start from; see `lindley.inference.match_quality`.
    doubt
        How many matches that were not trusted led here.
    drift
        By how many sds the matches that led here moved the result, as far as that was seen.
    log_evidence
        Log density of the batches that the fit was made on, under what it started from; None where it
        could not be estimated.
    covered
        How many batches that were.
    log_score
        Accumulated log predictive density of all batches; None where one of them has none.
    forgetting
        What forgetting goes by: the batch's newest times and the grid's accumulated scores (see
        `lindley.inference.forgetting`).
    """

    matched: MatchedPrior
    budget: float
    trusted: bool = True
    doubt: int = 0
    drift: float = 0.0
    log_evidence: float | None = None
    covered: int = 1
    log_score: float | None = None
    forgetting: dict[str, Any] = field(default_factory=dict)
