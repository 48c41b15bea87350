"""Fitting batches on a belief: sampling, hindsight, matching, judging; nothing that is made for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from lindley.batch.batch import Batch
from lindley.inference import assessment, forgetting
from lindley.inference.assessment import Sampling, Verdict
from lindley.inference.diagnostics import Thresholds
from lindley.inference.hindsight import Segment, Shift, in_sight, shift, to_undo
from lindley.inference.sampling import Draws, FitSettings, Progress, sample
from lindley.model.declaration import Declaration
from lindley.prior.belief import Belief
from lindley.prior.information import information_map
from lindley.prior.matched import MatchedPrior, match
from lindley.prior.stein import CalibratedWeights
from lindley.seeds import derive_seed
from lindley.target.prepare import prepare
from lindley.target.problem import Problem
from lindley.timing import Phases


@dataclass(frozen=True)
class Fit:
    """A fitted and judged target, before anything is made for people.

    Parameters
    ----------
    belief
        The belief after.
    start
        The belief that the fit started from in the end, before it was widened by forgetting; None for
        genesis.
    replayed, undone
        How many batches before the newest one were fitted again, and how many of the segments behind
        the prior that took.
    problem, draws
        What was fitted, and its draws.
    sampling, calibration, verdict
        How well it went.
    settings, attempts
        Sampler settings of the last attempt, and how many there were.
    forgetting
        See `Info`.
    """

    belief: Belief
    start: Belief | None
    replayed: int
    undone: int
    problem: Problem
    draws: Draws
    sampling: Sampling
    calibration: CalibratedWeights
    verdict: Verdict
    settings: FitSettings
    attempts: int
    forgetting: dict[str, Any]


# Matrices here are small: more threads cost more than they bring, most of all beside other work, and
# another number of them may round differently.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit(
    prior: Belief | None,
    batches: Sequence[Batch],
    declaration: Declaration,
    *,
    carried: tuple[str, ...],
    seed: int,
    behind: Sequence[Segment] = (),
    head: Belief | None = None,
    near: Belief | None = None,
    constants: dict[str, float] | None = None,
    settings: FitSettings | None = None,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
    phases: Phases | None = None,
) -> Fit:
    """Fit batches on a belief, match what passes on and judge both; see `step`.

    Parameters
    ----------
    batches
        What is fitted, oldest first.
    head
        The belief before the newest batch where there are several; None if nobody knows (a pooled refit).
    """
    settings = settings or FitSettings.of(declaration.policy)
    thresholds, phases = thresholds or Thresholds(), phases or Phases()
    head = prior if len(batches) == 1 else head
    near = near or head
    known = forgetting.discounts(declaration, prior, batches[-1]) if prior is not None else {}
    fitted = list(batches)
    remaining = list(behind)
    evidence = _evidence_before(batches, head)
    while True:
        tops = prior.forgetting.get("prior_sd_caps", {}) if prior is not None else {}
        used = forgetting.widened(prior.matched, known, tops) if prior is not None else None
        start = replace(prior, matched=used) if prior is not None and used is not None else None
        whitener = near.matched.straightened() if near is not None and prior is None else None
        problem = prepare(used, fitted, declaration, carried, phases, constants, whitener)
        draws, sampling, chosen, attempts = _sampled(problem, settings, thresholds, seed, phases, progress)
        undo, moved, oldest = 0, None, start
        if start is not None and not sampling.reasons and not known:
            room = declaration.policy.window + 1 - len(fitted)
            with phases("hindsight"):
                undo, moved, oldest = _look_back(
                    problem, draws, sampling, start, remaining, room, thresholds, constants
                )
        if not undo:
            break
        for segment in remaining[:undo]:
            undone = prior.log_evidence if prior is not None and prior.covered == segment.count else None
            evidence = evidence + undone if evidence is not None and undone is not None else None
            prior, fitted = segment.start(), [*segment.batches(), *fitted]
        remaining = remaining[undo:]
    with phases("match"):
        calibration, halves = assessment.calibrated(problem, draws, sampling)
        matched = _matched(problem, draws, sampling, calibration, halves)
    with phases("diagnose"):
        verdict = assessment.assess(
            problem,
            draws,
            sampling,
            calibration,
            matched,
            start=start,
            before=start if len(fitted) == 1 else head,
            evidence_before=evidence,
            shift=moved,
            oldest=oldest,
            replayed=len(fitted) - 1,
            seed=seed,
            thresholds=thresholds,
        )
        forgotten = _forgotten(problem, declaration, prior, used, known, matched, batches[-1], seed)
    metrics = verdict.metrics
    belief = Belief(
        matched=matched,
        budget=metrics["budget"],
        trusted=not verdict.doubts,
        doubt=int(metrics["doubt"]),
        drift=metrics["drift"],
        log_evidence=metrics.get("log_evidence"),
        covered=len(fitted),
        log_score=metrics.get("log_score"),
        forgetting=forgotten,
    )
    return Fit(
        belief=belief,
        problem=problem,
        start=prior,
        replayed=len(fitted) - 1,
        undone=len(behind) - len(remaining),
        draws=draws,
        sampling=sampling,
        calibration=calibration,
        verdict=verdict,
        settings=chosen,
        attempts=attempts,
        forgetting=forgotten,
    )


def _sampled(
    problem: Problem,
    settings: FitSettings,
    thresholds: Thresholds,
    seed: int,
    phases: Phases,
    progress: Progress | None,
) -> tuple[Draws, Sampling, FitSettings, int]:
    """Sample until the gate is content and the asked ESS is there, or attempts are used up."""
    chosen = settings
    for attempt in range(1, settings.attempts + 1):
        with phases("sample"):
            draws = sample(
                problem.bound,
                start=problem.start,
                settings=chosen,
                seed=derive_seed(str(seed), str(attempt)),
                progress=progress,
            )
        with phases("diagnose"):
            sampling = assessment.assess_sampling(problem, draws, thresholds)
        found = sampling.convergence.ess_min
        if attempt == settings.attempts or (not sampling.reasons and found >= chosen.ess):
            break
        chosen = chosen.harder() if sampling.reasons else chosen.longer(found)
    return draws, sampling, chosen, attempt


def _look_back(
    problem: Problem,
    draws: Draws,
    sampling: Sampling,
    start: Belief,
    behind: Sequence[Segment],
    room: int,
    thresholds: Thresholds,
    constants: dict[str, float] | None,
) -> tuple[int, Shift | None, Belief | None]:
    """Say what the matches behind a fit did to it, and how many segments to fit again.

    Local variables and state stand between batches and what passes on, so that the density that was
    matched is not known; a mixture with the genesis prior was not matched alone. There nothing is seen.

    Returns
    -------
    tuple
        Segments to fit again, the shift of all in sight, and the belief at their end (None: genesis).
    """
    declaration = problem.graph.declaration
    if problem.local_names or declaration.carry or declaration.policy.robust or len(problem.layout.new_at):
        return 0, None, start
    seen = in_sight([segment.count for segment in behind], declaration.policy.window)
    beliefs: list[Belief | None] = [start, *(segment.start() for segment in behind[:seen])]
    points = sampling.points.reshape(-1, sampling.points.shape[-1])
    values = [v.reshape(len(points), -1) for v in draws.quantities.values.values()]
    columns = np.column_stack([points, *values])
    carried, oldest = problem.coordinates.variables, beliefs[-1]

    def moved(first: int) -> Shift | None:
        upper = beliefs[first]
        batches = [batch for segment in reversed(behind[first:seen]) for batch in segment.batches()]
        start_of_all = oldest.matched if oldest else None
        older = prepare(start_of_all, batches, declaration, carried, Phases(), constants, seen=start.matched)
        if upper is None or older.pooled == "terms" or older.coordinates != problem.coordinates:
            return None
        used = upper.matched.ordered(problem.coordinates).map
        return shift(points, columns, used, lambda u: assessment.target_of_coordinates(older, u))

    counts = [segment.count for segment in behind[:seen]]
    undo, whole = to_undo(moved, counts, room, thresholds.shift_trust)
    return undo, whole, oldest if whole is not None else start


def _evidence_before(batches: Sequence[Batch], head: Belief | None) -> float | None:
    """Return the log evidence of the batches before the newest one, seen from the same start."""
    if len(batches) == 1:
        return 0.0
    seen = head is not None and head.covered == len(batches) - 1
    return head.log_evidence if head is not None and seen else None


def _matched(
    problem: Problem,
    draws: Draws,
    sampling: Sampling,
    calibration: CalibratedWeights,
    halves: tuple[CalibratedWeights, CalibratedWeights],
) -> MatchedPrior:
    """Match what passes on, by the family that the policy asks for."""
    declaration = problem.graph.declaration
    flat = draws.quantities.carried.reshape(-1, problem.coordinates.size)
    family = declaration.policy.family
    whole = not declaration.carry and not len(problem.layout.new_at)
    if family == "information" and problem.prior is not None and whole:
        x = draws.x.reshape(len(flat), -1)
        scores = problem.scores(x, problem.bound.log_densities(x)[1])
        added = information_map(flat, scores, problem.prior, problem.coordinates.names)
        if added is not None:
            return MatchedPrior(problem.coordinates, added, "information asked for", "information")
    return match(
        flat,
        problem.coordinates,
        calibration=calibration,
        halves=halves,
        ess=sampling.convergence.ess_min,
        state=frozenset(declaration.carry),
        family=family,
    )


def _forgotten(
    problem: Problem,
    declaration: Declaration,
    prior: Belief | None,
    used: MatchedPrior | None,
    found: dict[str, float],
    matched: MatchedPrior,
    batch: Batch,
    seed: int,
) -> dict[str, Any]:
    """Return discounts, scores of the grid, and what the next link goes by."""
    if not declaration.policy.forget:
        return {}
    scores: dict[str, dict[str, float]] = {}
    whole = not problem.local_names and not declaration.carry and not len(problem.layout.new_at)
    if prior is not None and used is not None and whole:
        scores = forgetting.grid_scores(
            declaration,
            used.ordered(problem.coordinates),
            prior.matched.ordered(problem.coordinates),
            found,
            lambda points: assessment.target_of_coordinates(problem, points),
            lambda points: assessment.likelihood_of_coordinates(problem, points),
            matched,
            np.random.default_rng(derive_seed(str(seed), "forgetting")),
            prior.forgetting.get("prior_sd_caps", {}),
        )
    known = forgetting.carried_on(declaration, prior, batch, scores)
    prior_sd_caps = forgetting.prior_sd_caps(
        problem.graph, prior, derive_seed(str(seed), "prior_sd_caps") % 2**31
    )
    return {"discounts": found, "scores": scores} | known | prior_sd_caps
