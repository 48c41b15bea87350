"""The belief that a link hands to the next one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lindley.prior.matched import MatchedPrior


@dataclass(frozen=True)
class Harm:
    """By how much matches moved a belief that no fit looks back on any more, as last measured.

    Parameters
    ----------
    mean, log_sd
        By coordinate: by how much the mean would be larger without these matches, in sds of the belief; and
        the logarithm of the sd.
    rest
        Drift of matches that could be measured once and cannot be followed any more, since a later link has
        other coordinates.
    """

    mean: dict[str, float] = field(default_factory=dict)
    log_sd: dict[str, float] = field(default_factory=dict)
    rest: float = 0.0


@dataclass(frozen=True)
class Belief:
    """The belief after a link: its matched prior, and what the chain accumulates.

    Parameters
    ----------
    matched
        The posterior's matched prior.
    budget
        Sum of (d+1)/ESS over the matches behind it.
    trusted
        Whether the match is good enough to start from; see `lindley.inference.diagnostics.match_quality`.
    doubt
        Number of matches behind it that were not trusted.
    modes_lost
        Number of matches behind it, its own included, that could not carry separated modes or their weights.
    drift
        Estimated shift caused by earlier matches, in posterior sds; a lower bound where not assessable.
    sight
        Number of the matches behind its own that the next fit looks back on too.
    unseen
        Harm of all matches before these.
    apart, inlined
        Whether its batches were fitted one by one, and whether the model holds batch values as constants.
    log_evidence
        Log evidence of the fitted batches under the prior that the fit started from; None where it could not
        be estimated.
    covered
        Number of these batches.
    log_score
        Accumulated log predictive density of all batches; None where one of them has none.
    forgetting
        State of forgetting: the batch's newest times and the grid's accumulated scores (see
        `lindley.inference.forgetting`).
    monitor
        What the newest batch was observed to do, and the state of the monitor of slow movement after it (see
        `lindley.inference.diagnostics.monitor`).
    """

    matched: MatchedPrior
    budget: float
    trusted: bool = True
    doubt: int = 0
    modes_lost: int = 0
    drift: float = 0.0
    sight: int = 0
    unseen: Harm = field(default_factory=Harm)
    apart: bool = False
    inlined: bool = False
    log_evidence: float | None = None
    covered: int = 1
    log_score: float | None = None
    forgetting: dict[str, Any] = field(default_factory=dict)
    monitor: dict[str, Any] = field(default_factory=dict)
