"""One update: `step(start, data, options) -> (belief, info)`, pure and seeded.

Frozen inputs, no ledger, no global random state: the same start, data and options give the same posterior,
bit by bit on the same versions of the libraries. `fit` is its first half: sample, look back with hindsight,
match, assess. `lindley.inference.foreign_trace.adopt` gives the same for a trace that was sampled elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from lindley.inference import forgetting, trace
from lindley.inference.approximation.attempt import approximated
from lindley.inference.assessment import assess
from lindley.inference.diagnostics.hindsight import Lineage
from lindley.inference.diagnostics.look_back import look_back
from lindley.inference.diagnostics.stated import values_of
from lindley.inference.groups import add_modes
from lindley.inference.info import Fit, Info, Provenance, info_of
from lindley.inference.inputs import Data, Options, Start, require_memory
from lindley.inference.modes.carrying import matched_to, weighted
from lindley.inference.modes.parts import sample_parts
from lindley.inference.modes.sampled import Sampled
from lindley.inference.rehearsal import Rehearsal, rehearse
from lindley.inference.sampling import FitSettings
from lindley.model.advice import advice
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.seeds import derive_seed
from lindley.target.prepare import prepare, prepare_whole
from lindley.target.problem import Known, Problem
from lindley.timing import COMPILE, DIAGNOSE, HINDSIGHT, MATCH, PREDICT, Phases


def step(start: Start, data: Data, options: Options) -> tuple[Belief, Info]:
    """Update a belief with batches.

    Parameters
    ----------
    start, data, options
        Where the fit starts, its validated batches (one, or several that are fitted together), and how.

    Returns
    -------
    tuple
        The belief after, and the step's `Info`. A fit that fails the gate is returned as well: the
        caller decides what becomes of it.

    Raises
    ------
    ModelRefused, CoordinatesMismatch, FitFailed
        If the model cannot be handled, does not match the prior, or cannot be sampled.
    """
    phases, rehearsed = Phases(), list[Rehearsal]()
    before = start.before(len(data.batches))

    def prepared(problem: Problem) -> None:
        if rehearsed:  # more batches are fitted again: the newest one's model is the same
            return
        with phases(PREDICT):
            found = rehearse(problem, before.matched if before is not None else None, seed=options.seed)
        rehearsed.append(replace(found, seconds=phases.seconds.get(COMPILE, 0.0)))
        if options.rehearsed is not None:
            options.rehearsed(rehearsed[0])

    found = fit(start, data, options, phases, prepared)
    problem, rehearsal = found.problem, rehearsed[0]
    with phases(PREDICT):
        tree = trace.build(
            problem,
            found.draws,
            found.sampled.calibration.weights,
            data.newest,
            prior=rehearsal.prior,
            predicted=rehearsal.predicted,
            omissions=rehearsal.omissions,
            seed=options.seed,
        )
        if found.sampled.modes is not None:
            modes = found.sampled.modes
            each = [(mode.draws.quantities.carried, mode.calibration.weights) for mode in modes.each]
            add_modes(tree, modes.mode_of, each)
    further = advice(
        problem.graph,
        data.newest.frame(),
        inlined=problem.inlined,
        compiled_before=problem.compiled_before,
        seconds=phases.seconds.get(COMPILE, 0.0),
    )
    info = info_of(found, tree, phases, rehearsal.omissions, before.matched if before is not None else None)
    return found.belief, replace(info, not_drawn=rehearsal.not_drawn, advice=further)


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
            Known(whitener=_whitener(widened, start.near), adds_up=data.adds_up),
        )
        if prepared is not None:
            prepared(problem)
        first = options.settings or FitSettings.of(data.declaration.policy)
        require_memory(problem.bound.size, first)
        attempt = approximated(problem, first, options, phases)
        parts = attempt.parts or sample_parts(problem, first, options, phases)
        with phases(MATCH):
            sampled = replace(weighted(problem, parts, options.seed), tried=parts.tried)
        sampling = sampled.sampling
        undo, view, unmeasured = 0, None, ""
        if widened is not None and not sampling.reasons and not discounts:
            with phases(HINDSIGHT):
                undo, view, unmeasured = look_back(
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
        unmeasured=unmeasured,
        audited=start.near.audited if start.near is not None else None,
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
            sampler=parts.stated(first, options.seed) | attempt.stated,
            attempts=tuple(attempt.as_dict() for attempt in parts.tried),
            graph=problem.digest,
            inlined_constants=problem.inlined,
            pooled=problem.pooled,
            started_from=start.prior.matched.digest if start.prior is not None else None,
        ),
        start=start.prior,
        undone=segments - len(start.behind),
    )


def _whitener(start: Belief | None, near: Belief | None) -> MatchedPrior | None:
    """Return the prior in whose whitened space a fit from genesis moves: that of a nearby belief."""
    return near.matched.as_joint_normal() if start is None and near is not None else None


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
