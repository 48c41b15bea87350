"""Fit batches on a belief: sample, look back with hindsight, match, assess."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from lindley.inference import forgetting
from lindley.inference.assessment import Assessment, Sampled, assess
from lindley.inference.diagnostics.hindsight import Lineage
from lindley.inference.diagnostics.look_back import look_back
from lindley.inference.diagnostics.stated import values_of
from lindley.inference.inputs import Data, Options, Start, require_memory
from lindley.inference.sampling import Draws, FitSettings, Sampling, assess_sampling, sample
from lindley.prior.belief import Belief
from lindley.prior.information import information_map
from lindley.prior.matched import MatchedPrior, match
from lindley.prior.stein import calibrate, equal_weights
from lindley.seeds import derive_seed
from lindley.target.prepare import prepare, prepare_whole
from lindley.target.problem import Problem
from lindley.timing import DIAGNOSE, HINDSIGHT, MATCH, SAMPLE, Phases


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
        sampling, sampler = _sampled(problem, data, options, phases)
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
        sampled = _calibrated(problem, sampling)
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
            sampler=sampler,
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


def _sampled(
    problem: Problem, data: Data, options: Options, phases: Phases
) -> tuple[Sampling, dict[str, Any]]:
    """Sample until the gate passes and the requested ESS is reached, or the attempts are used up.

    Returns
    -------
    tuple
        The last attempt, and the settings as the record states them.
    """
    first = options.settings or FitSettings.of(data.declaration.policy)
    chosen, attempt = first, 1
    require_memory(problem.bound.size, first)
    while True:
        with phases(SAMPLE):
            draws = sample(
                problem.bound,
                start=problem.start,
                settings=chosen,
                seed=derive_seed(str(options.seed), str(attempt)),
                progress=options.progress,
            )
        with phases(DIAGNOSE):
            sampling = assess_sampling(problem.names, problem.points(draws.x), draws, options.thresholds)
        ess = sampling.convergence.ess_min
        if attempt == first.attempts or (not sampling.reasons and ess >= chosen.ess):
            break
        chosen, attempt = chosen.harder() if sampling.reasons else chosen.longer(ess), attempt + 1
    # As text: a 63-bit integer has no exact form in canonical JSON.
    stated = {"seed": str(options.seed), "attempt": attempt}
    return sampling, chosen.as_dict() | first.as_first() | stated


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


def _calibrated(problem: Problem, sampling: Sampling) -> Sampled:
    """Weight the draws so that they fulfil Stein's identities; equally where the gate refuses them."""
    x = sampling.draws.x.reshape(-1, sampling.draws.x.shape[-1])
    half, ess = len(x) // 2, sampling.convergence.ess_min
    parts = ((slice(None), ess), (slice(half), ess / 2), (slice(half, None), ess / 2))
    if sampling.reasons:
        weights = [equal_weights(len(x[part])) for part, _ in parts]
    else:
        points = sampling.points.reshape(len(x), -1)[:, : problem.coordinates.size]
        scores = problem.scores(x)
        weights = [calibrate(points[part], scores[part], of_part) for part, of_part in parts]
    whole, first, second = weights
    return Sampled(
        graph=problem.graph, sampling=sampling, calibration=whole, halves=(first, second), problem=problem
    )


def matched_to(sampled: Sampled) -> MatchedPrior:
    """Return the prior matched to the carried draws, of the family that the policy sets."""
    problem, declaration = sampled.problem, sampled.graph.declaration
    family = declaration.policy.family
    if (
        family == "information"
        and problem is not None
        and problem.prior is not None
        and sampled.keeps_coordinates
    ):
        x = sampled.draws.x.reshape(len(sampled.carried), -1)
        scores = problem.scores(x)
        added = information_map(sampled.carried, scores, problem.prior, problem.coordinates.names)
        if added is not None:
            return MatchedPrior(problem.coordinates, added, "information asked for", "information")
    return match(
        sampled.carried,
        sampled.coordinates,
        calibration=sampled.calibration,
        halves=sampled.halves,
        ess=sampled.sampling.convergence.ess_min,
        state=frozenset(declaration.carry),
        family=family,
    )


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
