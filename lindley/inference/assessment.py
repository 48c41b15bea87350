"""Assess a fit or an imported trace: its sampling, its match, the newest batch's conflict; then the gate."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from lindley.inference.diagnostics.conflict import (
    Conflict,
    conflict,
    information_conflict,
    information_conflict_of_parts,
)
from lindley.inference.diagnostics.convergence import sd_errors
from lindley.inference.diagnostics.gate import SATURATED, Gate, Thresholds, cautions
from lindley.inference.diagnostics.hindsight import Lineage, View
from lindley.inference.diagnostics.importance import Importance, around, importance, log_integral
from lindley.inference.diagnostics.match_quality import match_distances, match_doubts
from lindley.inference.diagnostics.monitor import Observation, moved, watched
from lindley.inference.diagnostics.pulls import Pulls, simulate
from lindley.inference.diagnostics.remedies import with_remedies
from lindley.inference.diagnostics.stated import error_metrics, monte_carlo_errors, values_of
from lindley.inference.modes.attempts import tried
from lindley.inference.modes.sampled import Sampled
from lindley.inference.predictive import predictive_draws
from lindley.inference.rehearsal import prior_draws
from lindley.inference.sampling import Draws
from lindley.inference.trace import SUMMARY_SIZE
from lindley.model.graph import ModelGraph
from lindley.model.priors import undrawable
from lindley.prior.belief import Audited, Belief, Harm
from lindley.prior.matched import MatchedPrior
from lindley.prior.matching import match_map
from lindley.prior.mixture import Map, Mixture
from lindley.prior.triangular import TriangularMap
from lindley.seeds import derive_seed
from lindley.target.problem import Problem


@dataclass(frozen=True)
class Assessment:
    """The assessment of a fit or of an imported trace.

    Parameters
    ----------
    gate
        Whether it passed, with reasons and warnings.
    metrics
        Scalar results by name; only finite ones.
    distances
        Wasserstein-1 distance between the posterior's margin and the match's by coordinate, in sds.
    doubts
        Why the match is not trusted as a prior; empty where it is.
    view
        What hindsight saw; None where it could not, or there was nothing to see.
    thresholds
        The gate's thresholds.
    monitor
        What the batch was observed to do, and the state of the monitor after it; empty without a belief
        before it.
    """

    gate: Gate
    metrics: dict[str, float]
    distances: dict[str, float]
    doubts: tuple[str, ...] = ()
    view: View | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    monitor: dict[str, Any] = field(default_factory=dict)

    def belief(self, matched: MatchedPrior, covered: int, forgetting: dict[str, Any]) -> Belief:
        """Return the belief after, with the matched prior that was assessed."""
        metrics = self.metrics
        return Belief(
            matched=matched,
            budget=metrics["budget"],
            trusted=not self.doubts,
            doubt=int(metrics["doubt"]),
            modes_lost=int(metrics.get("modes_lost", 0)),
            drift=metrics["drift"],
            sight=self.view.sight if self.view is not None else 0,
            unseen=self.view.unseen if self.view is not None else Harm(rest=metrics["drift"]),
            unmeasured=int(metrics["unmeasured"]),
            audited=Audited.of(metrics),
            apart=metrics.get("apart", 0.0) > 0,
            inlined=metrics.get("inlined", 0.0) > 0,
            log_evidence=metrics.get("log_evidence"),
            covered=covered,
            log_score=metrics.get("log_score"),
            forgetting=forgetting,
            monitor=self.monitor,
        )


def assess(
    sampled: Sampled, matched: MatchedPrior, lineage: Lineage, *, seed: int, thresholds: Thresholds
) -> Assessment:
    """Assess draws and the prior matched to them, of a fit or of an imported trace.

    Parameters
    ----------
    sampled, matched
        The draws, and the prior that was matched to them.
    lineage
        The beliefs and matches behind the fit; the default for an imported trace.
    seed
        Seed of the samples that the assessment draws.
    thresholds
        Limits of the gate and of trust in the match.
    """
    names = ("importance", "distances")
    rng, distances_rng = (np.random.default_rng(derive_seed(str(seed), name)) for name in names)
    problem, weighted = sampled.problem, None
    if problem is not None:
        weighted = importance(_map_of(sampled, matched), problem.log_density, rng=rng)
    weights = sampled.calibration.weights
    distances, moment = match_distances(sampled.carried, weights, matched.map, distances_rng)
    assessing = weighted if sampled.assessable else None
    doubts = (*match_doubts(assessing, distances, moment, thresholds), *_saturated(lineage.view))
    least_known, sd_error = _least_known_sd(sampled.draws)
    start, view, ess = lineage.start, lineage.view, sampled.ess(moment)
    metrics = _sampling_metrics(sampled) | {
        "match_distance": float(distances.max(initial=0.0)),
        "match_moment": moment,
        "match_ess": ess,
        "budget": (start.budget if start else 0.0) + (matched.coordinates.size + 1) / ess,
        "doubt": float(start.doubt + (not start.trusted)) if start else 0.0,
        "trusted": float(not doubts),
        "sd_error": sd_error,
    }
    metrics |= _error(sampled, lineage)
    if view is not None:
        metrics |= {"shift": view.shift.largest, "shift_efficiency": view.shift.efficiency}
    if weighted is not None and problem is not None:
        metrics |= {
            "replayed": float(lineage.replayed),
            "apart": float(problem.pooled == "terms" or not sampled.assessable),
            "inlined": float(problem.inlined > 0),
            "k_hat": weighted.k_hat,
            "match_efficiency": weighted.efficiency,
        }
        metrics |= _predictive(sampled, matched, weighted, lineage, rng)
    watching: dict[str, Any] = {}
    by, warned = "", tuple[str, ...]()
    if lineage.before is not None:
        conflicting, observation = _conflict(sampled, lineage.before, seed, ess)
        metrics["conflict_p"], by = conflicting.p, conflicting.reason
        watching = watched(lineage.before.monitor, observation)
        alarm = moved(watching)
        metrics["moving"] = float(alarm is not None)
        warned = () if alarm is None else (alarm.text,)
    modes_lost = (start.modes_lost if start else 0) + bool(sampled.lost)
    metrics |= {
        "modes": float(len(sampled.modes.each) if sampled.modes else 1),
        "modes_lost": float(modes_lost),
    }
    warnings = cautions(
        metrics, thresholds, assessable=sampled.assessable, least_known=least_known, conflict_by=by
    )
    warnings += (sampled.lost,) if sampled.lost else ()
    return Assessment(
        gate=_gate(sampled, lineage, metrics, (*warnings, *warned), doubts, thresholds),
        metrics={name: value for name, value in metrics.items() if np.isfinite(value)},
        distances=dict(zip(sampled.coordinates.names, distances.tolist(), strict=True)),
        doubts=doubts,
        view=view,
        thresholds=thresholds,
        monitor=watching,
    )


def _error(sampled: Sampled, lineage: Lineage) -> dict[str, float]:
    """Return what is known of the error of a posterior."""
    problem, points = sampled.problem, sampled.sampling.points
    if problem is None:
        return error_metrics(lineage, None)
    values = values_of(problem.coordinates, points, sampled.draws.quantities.values)
    if problem.graph.declaration.carry:
        values = np.column_stack([values, sampled.carried])
    return error_metrics(lineage, partial(monte_carlo_errors, values, sampled.calibration, len(points)))


def _saturated(view: View | None) -> tuple[str, ...]:
    """Return that the shift by the matches behind a fit is only a lower bound, where it is."""
    if view is None or not view.shift.saturated:
        return ()
    return (
        f"matches behind it moved it by at least {view.shift.largest:.2f} sds: hindsight has too few draws "
        f"(efficiency {view.shift.efficiency:.3f}, below {SATURATED})",
    )


def _sampling_metrics(sampled: Sampled) -> dict[str, float]:
    """Return scalar results of the sampler; those of its statistics where there are any."""
    convergence, stats = sampled.sampling.convergence, sampled.draws.stats
    metrics = {
        "r_hat_max": float(convergence.r_hat.max()),
        "ess_bulk_min": float(convergence.ess_bulk.min()),
        "ess_tail_min": float(convergence.ess_tail.min()),
    }
    if stats:
        metrics |= {
            "divergences": float(np.sum(stats["diverging"])),
            "divergence_rate": sampled.sampling.divergence_rate,
            "steps_per_draw": float(np.mean(stats["n_steps"])),
        }
    return metrics


def _least_known_sd(draws: Draws) -> tuple[str, float]:
    """Return the variable or deterministic whose sd is known least, and its error as a fraction."""
    worst = ("", 0.0)
    for name, values in draws.quantities.named.items():
        size = int(np.prod(values.shape[2:], dtype=int))
        if name in draws.quantities.values or size <= SUMMARY_SIZE:
            error = float(sd_errors(values.reshape(*values.shape[:2], size)).max(initial=0.0))
            worst = max(worst, (name, error), key=lambda item: item[1])
    return worst


def _gate(
    sampled: Sampled,
    lineage: Lineage,
    metrics: dict[str, float],
    warnings: tuple[str, ...],
    doubts: tuple[str, ...],
    thresholds: Thresholds,
) -> Gate:
    """Return whether the fit passes. An imported trace always does: its draws cannot be made again."""
    sampling, policy = sampled.sampling, sampled.graph.declaration.policy
    reasons = with_remedies(sampling.reasons, sampled.graph, sampling.names, sampling.convergence)
    if sampled.problem is None:
        untrusted = "the matched prior is not trusted, and there are no batches to fit again"
        flags = (f"{untrusted}: {doubt}" for doubt in doubts)
        return Gate(passed=True, warnings=(*reasons, *warnings, *flags))
    if lineage.matches and lineage.audited is None:
        which = "match" if lineage.matches == 1 else f"{lineage.matches} matches"
        why = lineage.unmeasured or "an earlier link could not measure it"
        warnings += (f"the error by the earlier {which} is unknown ({why}): a pooled refit measures it",)
    again = tried(sampled.tried)
    if reasons and again:
        reasons += (again,)
    elif sampled.modes is None and not all(one.passed for one in sampled.tried):
        warnings += (f"the gate refused a fit at first, and it was sampled again: {again}",)
    if policy.conflict == "quarantine" and metrics.get("conflict_p", 1.0) < thresholds.conflict_warn:
        reasons += (
            f"the batch conflicts with the belief before it (p = {metrics['conflict_p']:.1e}): check the "
            'batch; to count it, set conflict="warn" and update with it again (--accept-model-change)',
        )
    return Gate(passed=not reasons, reasons=reasons, warnings=warnings)


def _map_of(sampled: Sampled, matched: MatchedPrior) -> Map:
    """Return the map matched to the target's own draws: the carried ones, unless state or locals differ."""
    if sampled.assessable:
        return matched.map
    if sampled.modes is not None:
        maps = (_map_of(mode, matched) for mode in sampled.modes.each)
        return Mixture(sampled.modes.shares, tuple(one for one in maps if isinstance(one, TriangularMap)))
    sampling = sampled.sampling
    points = sampling.points.reshape(-1, sampling.points.shape[-1])
    return match_map(points, sampling.names, calibration=sampled.calibration).map


def _predictive(
    sampled: Sampled,
    matched: MatchedPrior,
    weighted: Importance,
    lineage: Lineage,
    rng: np.random.Generator,
) -> dict[str, float]:
    """Return the log predictive density of the newest batch, and the estimates that it comes from.

    The weights estimate that of all batches that were fitted; the batches before the newest one have
    theirs from the fit before.
    """
    start, before, evidence_before = lineage.start, lineage.before, lineage.evidence_before
    evidence, problem = weighted.log_evidence, sampled.problem
    if evidence_before is None and before is not None and problem is not None and sampled.assessable:
        evidence_before = evidence - _direct_predictive(problem, matched, before, rng)
    metrics = {"log_evidence": evidence, "log_predictive_se": weighted.log_evidence_se}
    # Under an improper prior only differences mean something.
    known = start is not None or proper(sampled.graph)
    if evidence_before is not None and (known or before is not None):
        metrics["log_predictive"] = evidence - evidence_before
    origin = start.log_score if start is not None else 0.0
    scored = before.log_score if before is not None else origin
    if known and scored is not None and "log_predictive" in metrics:
        metrics["log_score"] = scored + metrics["log_predictive"]
    elif known and origin is not None:
        metrics["log_score"] = origin + evidence
    return metrics


def _direct_predictive(
    problem: Problem, matched: MatchedPrior, before: Belief, rng: np.random.Generator
) -> float:
    """Return the newest batch's log predictive density under the belief before it, by its match.

    It takes the place of the difference of two log evidences where they do not have the same start.
    """
    points, proposed = around(matched.map, rng)
    names = problem.coordinates.names
    known = [names.index(name) for name in before.matched.coordinates.names]
    prior = before.matched.map.log_density(points[:, known])
    return log_integral(problem.log_likelihood(points) + prior - proposed)


def proper(model_graph: ModelGraph) -> bool:
    """Whether the model's own prior integrates to one, so that its predictive density is defined."""
    model = model_graph.model
    return not undrawable(model_graph) and not model.potentials


def _conflict(sampled: Sampled, before: Belief, seed: int, ess: float) -> tuple[Conflict, Observation]:
    """Return how surprising the newest batch is under the belief before it, and what the monitor observes.

    Where no batches can be simulated, it goes by the coordinates [chain, draw, coordinate] that the newest
    batch's model has.
    """
    problem, declaration = sampled.problem, sampled.graph.declaration
    model = "" if declaration.in_memory else declaration.model_digest
    setting = " ".join([model, *sorted(declaration.policy.forget)])
    pulls: Pulls | str = "there is no target"
    if problem is not None:
        pulls = simulate(problem, before.matched, partial(_simulated, problem), seed)
    if not isinstance(pulls, str):
        found = conflict(pulls.observed, pulls.simulated)
        return found, pulls.observation(found, setting)
    names = sampled.coordinates.names
    where = [names.index(name) for name in before.matched.coordinates.names]
    u = sampled.draws.quantities.u
    flat, weights, prior = (
        u.reshape(-1, u.shape[-1])[:, where],
        sampled.calibration.weights,
        before.matched.map,
    )
    if isinstance(prior, Mixture):
        of_parts = information_conflict_of_parts(prior, flat, weights, ess, reason=pulls)
        return of_parts, Observation(setting=setting)
    found = information_conflict(prior.inverse(flat)[0], weights, ess, reason=pulls)
    return found, Observation(conflict=found.score, setting=setting)


def _simulated(problem: Problem, before: MatchedPrior, seed: int, size: int) -> dict[str, np.ndarray]:
    """Draw so many batches, with the inputs of the newest one, from a belief: arrays [batch, ...] by name."""
    values = prior_draws(problem, before, seed=seed, size=size)
    return predictive_draws(problem.graph.compilable.model, values or {}, rng=np.random.default_rng(seed))
