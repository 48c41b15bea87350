"""The belief that a link hands to the next one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import hypot
from typing import Any

from lindley.prior.matched import MatchedPrior

#: By how much matches may do more than those that refits measured: in a chain with new labels one refit
#: measured 1.9 times what was expected after the one before (docs/adr/0043-measure-by-pooled-refits.md).
SAFETY = 2.0


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
class Audited:
    """What pooled refits measured of matches that hindsight could not measure.

    Parameters
    ----------
    error
        Largest difference of a mean, in sds, or of the logarithm of an sd, that they caused together; no less
        than half of what was expected of them (see `measured`).
    monte_carlo
        What the Monte Carlo errors of the two fits that differ make of it at 99%, in the same units.
    matches
        How many the newest refit measured.
    """

    error: float
    monte_carlo: float
    matches: int

    @classmethod
    def of(cls, metrics: Mapping[str, float]) -> Audited | None:
        """Return what the metrics of a link state; None where they state nothing."""
        if "audited_error" not in metrics:
            return None
        names = ("audited_error", "audited_monte_carlo", "audited_matches")
        error, monte_carlo, matches = (metrics[name] for name in names)
        return cls(float(error), float(monte_carlo), int(matches))

    def as_metrics(self) -> dict[str, float]:
        """Return the metrics of a link that state it."""
        return {
            "audited_error": self.error,
            "audited_monte_carlo": self.monte_carlo,
            "audited_matches": float(self.matches),
        }

    @classmethod
    def measured(cls, error: float, monte_carlo: float, matches: int, earlier: Audited | None) -> Audited:
        """Return what is known after a refit measured an error by so many matches.

        One refit measures one outcome of an error that varies: what earlier ones measured is forgotten by
        half, so that a small outcome does not count as proof.
        """
        least = 0.5 * earlier.expected(matches) if earlier is not None else 0.0
        return cls(max(error, least), monte_carlo, matches)

    def growth(self, matches: int) -> float:
        """Return by what the error grows until so many matches: in proportion, as errors of one sign do.

        A part of the matches that were measured may do as much as all of them, whose errors may cancel.
        """
        return max(1.0, matches / self.matches) if matches else 0.0

    def expected(self, matches: int) -> float:
        """Return the error that so many matches are expected to cause."""
        return self.growth(matches) * self.error

    def harm(self, matches: int) -> float:
        """Return the same where Monte Carlo error does not explain what was measured, and 0 where it does."""
        return self.expected(matches) if self.error > self.monte_carlo else 0.0

    def bound(self, matches: int, monte_carlo: float) -> float:
        """Return the bound on the error of a posterior with so many matches behind it.

        Later matches may do `SAFETY` times as much as those that were measured. The Monte Carlo errors of its
        own draws and of the two fits that were compared are independent.

        Parameters
        ----------
        matches
            Number of matches behind it.
        monte_carlo
            Monte Carlo error of its own draws, at 99%.
        """
        return SAFETY * self.expected(matches) + hypot(monte_carlo, self.growth(matches) * self.monte_carlo)


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
    unmeasured
        Number of matches behind it, since the last pooled fit, whose harm hindsight could not measure.
    audited
        What the newest pooled refit measured of such matches; None where none did.
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
    unmeasured: int = 0
    audited: Audited | None = None
    apart: bool = False
    inlined: bool = False
    log_evidence: float | None = None
    covered: int = 1
    log_score: float | None = None
    forgetting: dict[str, Any] = field(default_factory=dict)
    monitor: dict[str, Any] = field(default_factory=dict)
