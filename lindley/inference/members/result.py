"""What the fit of one member gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lindley.inference.members.task import Key
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior

#: How a posterior was sampled.
NUTS, APPROXIMATION = "nuts", "approximation"


@dataclass(frozen=True, kw_only=True)
class MemberFit:
    """A member's belief after its batch, and how it was found; or why there is none.

    Parameters
    ----------
    key
        The task's.
    passed, reasons, warnings
        Whether the fit passes the gate, and why not. A fit that could not be made does not pass.
    doubts
        Why the match is not trusted as a prior; empty where it is.
    belief
        The belief after; None where the fit could not be made. One that did not pass is there as well.
    sampler
        ``approximation`` or ``nuts``; empty where the fit could not be made.
    settings
        Settings of the sampler, as the record of a link states them.
    certificate
        What an approximation was accepted by: ``k_hat``, ``k_hat_limit``, ``efficiency``, ``draws``, ``ess``.
        Empty for draws of NUTS.
    declined
        Why an approximation was not accepted; empty where none was tried, or where it was.
    metrics
        Scalar results by name, as those of a link.
    summary
        Mean, sd, and quantiles q05 to q95 of each carried parameter on its natural scale, by its label.
    distances
        Wasserstein-1 distance between the posterior's margin and the match's by coordinate, in sds.
    started_from
        Digest of the matched prior that the fit started from, before it was widened by forgetting; None
        for the model's own priors.
    undone
        Number of the segments behind the prior whose batches were fitted again, because a match had moved
        the result.
    draws
        Draws [draw] on the natural scale by label, as many as the options ask for.
    error
        Type of the error that the fit raised; empty where it raised none.
    """

    key: Key
    passed: bool
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    belief: Belief | None = None
    sampler: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    certificate: dict[str, float] = field(default_factory=dict)
    declined: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    summary: dict[str, dict[str, float]] = field(default_factory=dict)
    distances: dict[str, float] = field(default_factory=dict)
    started_from: str | None = None
    undone: int = 0
    draws: dict[str, np.ndarray] = field(default_factory=dict)
    error: str = ""

    @property
    def matched(self) -> MatchedPrior | None:
        """The matched prior after; None where the fit could not be made."""
        return None if self.belief is None else self.belief.matched
