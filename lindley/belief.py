"""What passes from link to link."""

from __future__ import annotations

from dataclasses import dataclass

from lindley.prior import MatchedPrior


@dataclass(frozen=True)
class Belief:
    """What passes from link to link.

    Parameters
    ----------
    matched
        The posterior's matched prior.
    budget
        Accumulated (d+1)/ESS of the links so far.
    """

    matched: MatchedPrior
    budget: float
