"""Fit batches on a belief: sample, look back with hindsight, match, assess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from lindley.inference import forgetting
from lindley.inference.assessment import Assessment, assess
from lindley.inference.diagnostics.hindsight import Lineage
from lindley.inference.diagnostics.look_back import look_back
from lindley.inference.diagnostics.stated import values_of
from lindley.inference.inputs import Data, Options, Start, require_memory
from lindley.inference.modes.carrying import matched_to, weighted
from lindley.inference.modes.parts import sample_parts
from lindley.inference.modes.sampled import Sampled
from lindley.inference.sampling import Draws, FitSettings
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.seeds import derive_seed
from lindley.target.prepare import prepare, prepare_whole
from lindley.target.problem import Problem
from lindley.timing import DIAGNOSE, HINDSIGHT, MATCH, Phases


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the draws come from, as the record of a link states it.

    Parameters
    ----------
    sampler
        Sampler settings of the last attempt, what further attempts changed as it was in the first
        (``first_...``), the seed and the number of attempts; of an imported trace, its origin.
    graph
        Sha256 of the target's structure; empty for an imported trace.
    inlined_constants
        Number of arrays that tie the target to this batch's shape (see `lindley.model.free_lengths`).
    pooled
        How several batches were fitted together: ``rows``, ``terms``, or empty for one batch.
    started_from
        Digest of the matched prior that the fit started from, before it was widened by forgetting; None
        for the model's own priors.
    """

    sampler: dict[str, Any]
    graph: str = ""
    inlined_constants: int = 0
    pooled: str = ""
    started_from: str | None = None


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A belief with the draws behind it and their assessment: of a fit, or of an imported trace.

    Parameters
    ----------
    belief
        The belief after.
    sampled
        What was fitted, its draws and their weights.
    assessment
        Gate, metrics, and doubts about the match.
    provenance
        Where the draws come from.
    start
        The belief that the fit started from in the end, before it was widened by forgetting; None for
        genesis.
    undone
        Number of the segments behind the prior whose batches were fitted again, because a match had moved
        the result.
    """

    belief: Belief
    sampled: Sampled
    assessment: Assessment
    provenance: Provenance
    start: Belief | None = None
    undone: int = 0

    @property
    def problem(self) -> Problem:
        """The target that was fitted.

        Raises
        ------
        ValueError
            If the draws are those of an imported trace.
        """
        if self.sampled.problem is None:
            raise ValueError("the target of an imported trace is unknown")
        return self.sampled.problem

    def warned(self, sentences: tuple[str, ...]) -> Fit:
        """Return the same with further warnings, which refuse nothing."""
        if not sentences:
            return self
        gate = replace(self.assessment.gate, warnings=(*self.assessment.gate.warnings, *sentences))
        return replace(self, assessment=replace(self.assessment, gate=gate))

    @property
    def draws(self) -> Draws:
        """The draws of the last attempt."""
        return self.sampled.draws

    @property
    def replayed(self) -> int:
        """Number of batches before the newest one that were fitted again."""
        return self.belief.covered - 1


# Matrices here are small: more threads cost more than they bring, most of all beside other work, and
# another number of them may round differently.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit(
    start: Start,
    data: Data,
    options: Options,
    phases: Phases | None = None,
    prepared: Callable[[Problem], object] | None = None,
) -> Fit:
    """Fit batches on a belief, match the carried draws and assess fit and match.

    Parameters
    ----------
    start, data, options
        Where the fit starts, what is fitted, and how.
    phases
        Takes the seconds of each phase.
    prepared
        Called with every prepared step before it is sampled; what it raises ends the fit.

    Raises
    ------
    ModelRefused, CoordinatesMismatch, FitFailed
        If the model cannot be handled, does not match the prior, or cannot be sampled.
    """
    phases, segments = phases or Phases(), len(start.behind)
    head = start.before(len(data.batches))
    start = replace(start, head=head, near=start.near or head)
    discounts = forgetting.discounts(data.declaration, start.prior, data.newest) if start.prior else {}
    evidence = _evidence_before(data, head)
    while True:
        widened = _widened(start.prior, discounts)
        problem = (prepare_whole if data.whole else prepare)(
            widened.matched if widened is not None else None,
            data.batches,
            data.declaration,
            data.carried,
            phases,
            data.constants,
            # A fit from genesis moves in the whitened space of a nearby belief.
            start.near.matched.as_joint_normal() if widened is None and start.near is not None else None,
        )
        if prepared is not None:
            prepared(problem)
        first = options.settings or FitSettings.of(data.declaration.policy)
        require_memory(problem.bound.size, first)
        parts = sample_parts(problem, first, options, phases)
        with phases(MATCH):
            sampled = weighted(problem, parts, options.seed)
        sampling = sampled.sampling
        undo, view = 0, None
        if widened is not None and not sampling.reasons and not discounts:
            with phases(HINDSIGHT):
                undo, view = look_back(
                    problem,
                    values_of(problem.coordinates, sampling.points, sampling.draws.quantities.values),
                    widened,
                    start.behind,
                    data.declaration,
                    data.batches,
                    data.constants,
                    options.thresholds.shift_trust,
                )
        if not undo:
            break
        start, data, evidence = _undone(start, data, evidence, undo)
    with phases(MATCH):
        matched = matched_to(sampled)
    lineage = Lineage(
        start=widened,
        before=widened if len(data.batches) == 1 else head,
        evidence_before=evidence,
        view=view,
        replayed=len(data.batches) - 1,
    )
    with phases(DIAGNOSE):
        assessment = assess(sampled, matched, lineage, seed=options.seed, thresholds=options.thresholds)
        kept = _forgotten(sampled, matched, start.prior, widened, discounts, data, options.seed)
    return Fit(
        belief=assessment.belief(matched, len(data.batches), kept),
        sampled=sampled,
        assessment=assessment,
        provenance=Provenance(
            sampler=parts.stated(first, options.seed),
            graph=problem.digest,
            inlined_constants=problem.inlined,
            pooled=problem.pooled,
            started_from=start.prior.matched.digest if start.prior is not None else None,
        ),
        start=start.prior,
        undone=segments - len(start.behind),
    )


def _widened(prior: Belief | None, discounts: dict[str, float]) -> Belief | None:
    """Return a belief widened by forgetting; None for genesis."""
    if prior is None:
        return None
    caps = prior.forgetting.get("prior_sd_caps", {})
    return replace(prior, matched=forgetting.widened(prior.matched, discounts, caps))


def _undone(
    start: Start, data: Data, evidence: float | None, segments: int
) -> tuple[Start, Data, float | None]:
    """Return start, data and log evidence before of a fit that fits the newest segments behind it again."""
    prior, batches = start.prior, data.batches
    for segment in start.behind[:segments]:
        undone = prior.log_evidence if prior is not None and prior.covered == segment.count else None
        evidence = evidence + undone if evidence is not None and undone is not None else None
        prior, batches = segment.start(), (*segment.batches(), *batches)
    start = replace(start, prior=prior, behind=start.behind[segments:])
    return start, replace(data, batches=batches), evidence


def _evidence_before(data: Data, head: Belief | None) -> float | None:
    """Return the log evidence of the batches that the head counts, from the same start."""
    counted = len(data.batches) - data.fresh
    if counted == 0:
        return 0.0
    return head.log_evidence if head is not None and head.covered == counted else None


def _forgotten(
    sampled: Sampled,
    matched: MatchedPrior,
    prior: Belief | None,
    widened: Belief | None,
    discounts: dict[str, float],
    data: Data,
    seed: int,
) -> dict[str, Any]:
    """Return discounts, scores of the grid, and what the next link's discounts depend on."""
    declaration, problem = data.declaration, sampled.problem
    if not declaration.policy.forget or problem is None:
        return {}
    scores: dict[str, dict[str, float]] = {}
    if prior is not None and widened is not None and sampled.keeps_coordinates and not problem.local_names:
        scores = forgetting.grid_scores(
            prior,
            widened.matched.ordered(problem.coordinates),
            discounts,
            problem,
            matched,
            np.random.default_rng(derive_seed(str(seed), "forgetting")),
        )
    kept = forgetting.kept_for_next(declaration, prior, data.newest, scores)
    caps = forgetting.prior_sd_caps(problem.graph, prior, derive_seed(str(seed), "prior_sd_caps") % 2**31)
    return {"discounts": discounts, "scores": scores} | kept | caps
