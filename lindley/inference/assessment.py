"""Judging a fit: its sampling, the match made of it, the batch's pull; then the gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lindley.inference import diagnostics
from lindley.inference.diagnostics import Convergence, Gate, Thresholds
from lindley.inference.hindsight import Shift
from lindley.inference.match_quality import Quality, match_distances
from lindley.inference.sampling import Draws
from lindley.inference.trace import SUMMARY_SIZE
from lindley.model import graph
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.prior.matching import match_map
from lindley.prior.stein import CalibratedWeights, calibrate, equal_weights
from lindley.prior.triangular import TriangularMap
from lindley.seeds import derive_seed
from lindley.target.problem import Problem


@dataclass(frozen=True)
class Sampling:
    """How well the sampler did.

    Parameters
    ----------
    names
        Names of the x: carried coordinates, then local ones.
    points
        Array [chain, draw, x] of them.
    convergence
        R-hat and effective sample sizes, per coordinate.
    divergence_rate
        Fraction of draws that diverged.
    reasons
        Why the gate refuses the fit; empty when it does not.
    """

    names: list[str]
    points: np.ndarray
    convergence: Convergence
    divergence_rate: float
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What became of a fit.

    Parameters
    ----------
    gate
        The gate's verdict.
    figures
        Scalar results; what is not defined is left out.
    quality
        Quality of the match.
    doubts
        Why the match is not to be trusted as a prior; empty where it is.
    """

    gate: Gate
    metrics: dict[str, float]
    quality: Quality
    doubts: tuple[str, ...]


def assess_sampling(problem: Problem, draws: Draws, thresholds: Thresholds) -> Sampling:
    """Hold convergence and divergences of a fit against the thresholds."""
    # On the coordinates themselves; whitening only bends and scales them.
    points = problem.points(draws.x)
    convergence = diagnostics.convergence(points)
    rate = float(np.mean(draws.stats["diverging"]))
    reasons = diagnostics.refusals(problem.names, convergence, divergences=rate, thresholds=thresholds)
    return Sampling(problem.names, points, convergence, rate, reasons)


def calibrated(
    problem: Problem, draws: Draws, sampling: Sampling
) -> tuple[CalibratedWeights, tuple[CalibratedWeights, CalibratedWeights]]:
    """Return the weights under which the draws fulfil Stein's identities, chains one after the other.

    Returns
    -------
    tuple
        Weights of all draws, and those of the first and of the second half by themselves.
    """
    size = problem.coordinates.size
    x = draws.x.reshape(-1, draws.x.shape[-1])
    half = len(x) // 2
    if sampling.reasons:
        return equal_weights(len(x)), (equal_weights(half), equal_weights(len(x) - half))
    points = sampling.points.reshape(len(x), -1)[:, :size]
    scores = problem.scores(x, problem.bound.log_densities(x)[1])
    ess = sampling.convergence.ess_min
    return calibrate(points, scores, ess), (
        calibrate(points[:half], scores[:half], ess / 2),
        calibrate(points[half:], scores[half:], ess / 2),
    )


def assess(
    problem: Problem,
    draws: Draws,
    sampling: Sampling,
    calibration: CalibratedWeights,
    matched: MatchedPrior,
    *,
    start: Belief | None,
    before: Belief | None,
    evidence_before: float | None,
    shift: Shift | None,
    oldest: Belief | None,
    replayed: int,
    seed: int,
    thresholds: Thresholds,
) -> Verdict:
    """Judge a fit.

    Parameters
    ----------
    problem, draws, sampling, calibration, matched
        What was fitted, and what was made of it.
    start
        The belief that the fit started from; None for genesis.
    before
        The belief before the newest batch; None where there is none, or nobody knows it.
    evidence_before
        Log evidence of the batches before the newest one, seen from `start`; None if nobody knows it.
    shift
        What the matches behind the fit did to it, as far back as it was seen; None if it cannot be seen.
    oldest
        The belief at the end of what was seen; None for genesis.
    replayed
        How many batches before the newest one were fitted again.
    seed
        Seed of the samples that judge.
    thresholds
        What is held against what.
    """
    rng = np.random.default_rng(derive_seed(str(seed), "importance"))
    importance = diagnostics.importance(
        _map_of(problem, sampling, calibration, matched),
        lambda points: target_of_coordinates(problem, points),
        rng=rng,
    )
    distances, moment = match_distances(
        draws.quantities.carried.reshape(-1, problem.coordinates.size),
        calibration.weights,
        matched.map,
        np.random.default_rng(derive_seed(str(seed), "distances")),
    )
    # With local variables the weights say more about those than about what passes on.
    judged = not problem.local_names and not problem.graph.declaration.carry
    quality = Quality(importance, judged, distances, moment)
    doubts = (*quality.doubts(thresholds), *_unseen(problem, judged, replayed))
    ess = max(sampling.convergence.ess_min, 1.0) * calibration.gain
    known_worst = _known_worst(draws)
    metrics = {
        "r_hat_max": float(sampling.convergence.r_hat.max()),
        "ess_bulk_min": float(sampling.convergence.ess_bulk.min()),
        "ess_tail_min": float(sampling.convergence.ess_tail.min()),
        "divergences": float(np.sum(draws.stats["diverging"])),
        "divergence_rate": sampling.divergence_rate,
        "k_hat": importance.k_hat,
        "match_efficiency": importance.efficiency,
        "match_distance": float(distances.max(initial=0.0)),
        "match_moment": moment,
        "match_ess": ess,
        "budget": (start.budget if start else 0.0) + (matched.coordinates.size + 1) / ess,
        "doubt": float(start.doubt + (not start.trusted)) if start else 0.0,
        "trusted": float(not doubts),
        "drift": _drift(sampling, oldest, shift),
        "replayed": float(replayed),
        "sd_error": known_worst[1],
        "steps_per_draw": float(np.mean(draws.stats["n_steps"])),
    }
    blind = start is not None and shift is None and not problem.graph.declaration.policy.forget
    if shift is not None:
        metrics |= {"shift": shift.largest, "shift_efficiency": shift.efficiency}
    if evidence_before is None and before is not None and judged:
        evidence_before = importance.log_evidence - _direct_predictive(problem, matched, before, rng)
    metrics |= _predictive(problem, importance, start, before, evidence_before)
    if before is not None:
        metrics["conflict_p"] = _conflict(problem, draws.quantities.u, before, calibration.weights, ess)
    return Verdict(
        gate=_gate(problem, sampling, quality, metrics, known_worst, blind, thresholds),
        metrics={name: value for name, value in metrics.items() if np.isfinite(value)},
        quality=quality,
        doubts=doubts,
    )


def _unseen(problem: Problem, judged: bool, replayed: int) -> tuple[str, ...]:
    """Say that nobody could see later what the match does, as long as that can be put off.

    The more batches are fitted together before a match, the less there is left for it to lose.
    """
    window = problem.graph.declaration.policy.window
    if judged or replayed >= window:
        return ()
    return (
        f"what the matched prior would do could not be seen (local variables or state): {replayed} of at "
        f"most {window} batches were fitted again",
    )


def _known_worst(draws: Draws) -> tuple[str, float]:
    """Return the variable or deterministic whose sd is known worst, and its error as a fraction."""
    worst = ("", 0.0)
    for name, values in draws.quantities.named.items():
        size = int(np.prod(values.shape[2:], dtype=int))
        if name in draws.quantities.values or size <= SUMMARY_SIZE:
            error = float(diagnostics.sd_errors(values.reshape(*values.shape[:2], size)).max(initial=0.0))
            worst = max(worst, (name, error), key=lambda item: item[1])
    return worst


def _drift(sampling: Sampling, oldest: Belief | None, shift: Shift | None) -> float:
    """Return by how many sds the matches behind a fit moved it, as far as that was seen.

    A shift of the prior is worth less where the data have narrowed the belief since: in units of its sd
    it falls with the ratio of the sds.
    """
    seen = shift.largest if shift is not None else 0.0
    if oldest is None:
        return seen
    before = oldest.matched.map.sample(np.random.default_rng(0), 1000).std(axis=0)
    where = [sampling.names.index(name) for name in oldest.matched.coordinates.names]
    after = sampling.points.reshape(-1, sampling.points.shape[-1])[:, where].std(axis=0)
    narrowed = float(min((after / before).max(), 1.0))
    return oldest.drift * narrowed + seen


def _gate(
    problem: Problem,
    sampling: Sampling,
    quality: Quality,
    metrics: dict[str, float],
    known_worst: tuple[str, float],
    blind: bool,
    thresholds: Thresholds,
) -> Gate:
    """Return the gate's verdict."""
    warnings = diagnostics.cautions(
        divergences=sampling.divergence_rate,
        match_quality=quality.importance if quality.judged else None,
        budget=metrics["budget"],
        doubt=metrics["doubt"],
        drift=metrics["drift"],
        conflict_p=metrics.get("conflict_p"),
        sd_error=known_worst,
        thresholds=thresholds,
    )
    if blind:
        warnings = (
            *warnings,
            "what the match that it started from did cannot be seen (local variables, state, a mixture or "
            "new labels): an audit tells",
        )
    reasons = sampling.reasons
    if (
        problem.graph.declaration.policy.conflict == "quarantine"
        and metrics.get("conflict_p", 1.0) < thresholds.conflict_warn
    ):
        reasons = (
            *reasons,
            f"the batch conflicts with the belief before it (p = {metrics['conflict_p']:.1e})",
        )
    return Gate(passed=not reasons, reasons=reasons, warnings=warnings)


def _predictive(
    problem: Problem,
    importance: diagnostics.Importance,
    start: Belief | None,
    before: Belief | None,
    evidence_before: float | None,
) -> dict[str, float]:
    """Return the log predictive density of the newest batch, and what it is made of.

    The weights estimate that of all batches that were fitted; the batches before the newest one have
    theirs from the fit before.
    """
    evidence = importance.log_evidence
    metrics = {"log_evidence": evidence, "log_predictive_se": importance.log_evidence_se}
    if start is None and not proper(problem):
        # Only differences mean something then.
        if before is not None and evidence_before is not None:
            metrics["log_predictive"] = evidence - evidence_before
        return metrics
    origin = start.log_score if start is not None else 0.0
    scored = before.log_score if before is not None else origin
    if evidence_before is not None:
        metrics["log_predictive"] = evidence - evidence_before
        if scored is not None:
            metrics["log_score"] = scored + metrics["log_predictive"]
    if "log_score" not in metrics and origin is not None:
        metrics["log_score"] = origin + evidence
    return metrics


def _direct_predictive(
    problem: Problem, matched: MatchedPrior, before: Belief, rng: np.random.Generator
) -> float:
    """Return the newest batch's log predictive density under the belief before it, by its match.

    It takes the place of the difference of two evidences where they were not seen from the same start.
    """
    points, proposed = diagnostics.around(matched.map, rng)
    names = problem.coordinates.names
    known = [names.index(name) for name in before.matched.coordinates.names]
    prior = before.matched.map.log_density(points[:, known])
    return diagnostics.log_integral(likelihood_of_coordinates(problem, points) + prior - proposed)


def proper(problem: Problem) -> bool:
    """Whether the model's own prior integrates to one, so that its predictive density is defined."""
    model = problem.graph.model
    return not any(graph.improper(rv) for rv in model.free_RVs) and not model.potentials


def _conflict(problem: Problem, u: np.ndarray, before: Belief, weights: np.ndarray, ess: float) -> float:
    """Return the p-value of the newest batch's pull against the belief before it.

    `u` are the coordinates [chain, draw, coordinate] that the newest batch's model sees.
    """
    names = problem.coordinates.names
    where = [names.index(name) for name in before.matched.coordinates.names]
    flat = u.reshape(-1, u.shape[-1])[:, where]
    return diagnostics.conflict(before.matched.map.inverse(flat)[0], weights, ess)


def _map_of(
    problem: Problem, sampling: Sampling, calibration: CalibratedWeights, matched: MatchedPrior
) -> TriangularMap:
    """Return the map matched to this fit's own draws: what passes on, unless state or locals differ."""
    if not problem.local_names and not problem.graph.declaration.carry:
        return matched.map
    points = sampling.points.reshape(-1, sampling.points.shape[-1])
    return match_map(points, sampling.names, calibration=calibration).map


def target_of_coordinates(problem: Problem, points: np.ndarray) -> np.ndarray:
    """Return the target's log density [point] at coordinates and local variables [point, x].

    The sampler's target is a density of whitened points; the slope of the whitening takes it over.
    """
    x, log_slope = problem.vectors(points)
    found: np.ndarray = problem.bound.log_densities(x)[0] + log_slope
    return found


def likelihood_of_coordinates(problem: Problem, points: np.ndarray) -> np.ndarray:
    """Return the newest batch's log likelihood [point] at coordinates [point, coordinate].

    For models without local variables; the belief may have labels that the batch does not.
    """
    names = problem.coordinates.names
    here = [names.index(name) for name in problem.graph.coordinates.names]
    return problem.at(points[:, here], np.zeros((len(points), 0))).log_likelihood
