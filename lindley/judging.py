"""Judging a fit: its sampling, the match made of it, the batch's pull; then the gate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lindley import diagnostics, trace
from lindley.belief import Belief
from lindley.diagnostics import Convergence, Gate, Thresholds
from lindley.fit import Draws, log_density
from lindley.matching import match_map
from lindley.prior import MatchedPrior, covariance_factor
from lindley.problem import Problem
from lindley.seeds import derive_seed
from lindley.transport import TriangularMap


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


def judge_sampling(problem: Problem, draws: Draws, thresholds: Thresholds) -> Sampling:
    """Hold convergence and divergences of a fit against the thresholds."""
    size = problem.graph.coordinates.size
    names = problem.graph.coordinates.names
    names += [name for variable in problem.graph.local for name in variable.block.names()]
    # On the coordinates themselves; whitening only bends and scales them.
    points = np.concatenate([draws.quantities["u"], draws.x[..., size:]], axis=-1)
    convergence = diagnostics.convergence(points)
    rate = float(np.mean(draws.stats["diverging"]))
    reasons = diagnostics.refusals(names, convergence, divergences=rate, thresholds=thresholds)
    return Sampling(names, points, convergence, rate, reasons)


def judge(
    problem: Problem,
    draws: Draws,
    sampling: Sampling,
    matched: MatchedPrior,
    prior: Belief | None,
    seed: int,
    thresholds: Thresholds,
) -> tuple[Gate, dict[str, float]]:
    """Return the gate's verdict and the scalar results of a fit; what is not defined is left out."""
    size = problem.graph.coordinates.size
    quality = diagnostics.importance(
        _map_of(problem, sampling, matched),
        lambda points: _target_in_coordinates(problem, points),
        rng=np.random.default_rng(derive_seed(str(seed), "importance")),
    )
    before = prior.budget if prior is not None else 0.0
    figures = {
        "r_hat_max": float(sampling.convergence.r_hat.max()),
        "ess_bulk_min": float(sampling.convergence.ess_bulk.min()),
        "ess_tail_min": float(sampling.convergence.ess_tail.min()),
        "divergences": float(np.sum(draws.stats["diverging"])),
        "divergence_rate": sampling.divergence_rate,
        "k_hat": quality.k_hat,
        "match_efficiency": quality.efficiency,
        "budget": before + (size + 1) / max(sampling.convergence.ess_min, 1.0),
        "steps_per_draw": float(np.mean(draws.stats["n_steps"])),
    }
    if trace.proper(problem.graph.model, problem.prior is None):
        figures["log_predictive"] = quality.log_evidence
        figures["log_predictive_se"] = quality.log_evidence_se
    if prior is not None:
        whitened = draws.x[..., :size].reshape(-1, size)
        figures["conflict_p"] = diagnostics.conflict(whitened)
    warnings = diagnostics.cautions(
        divergences=sampling.divergence_rate,
        # With local variables the weights say more about those than about what passes on.
        match_quality=None if problem.graph.local else quality,
        budget=figures["budget"],
        conflict_p=figures.get("conflict_p"),
        thresholds=thresholds,
    )
    gate = Gate(passed=not sampling.reasons, reasons=sampling.reasons, warnings=warnings)
    return gate, {name: value for name, value in figures.items() if np.isfinite(value)}


def _map_of(problem: Problem, sampling: Sampling, matched: MatchedPrior) -> TriangularMap:
    """Return the map matched to this fit's own draws: what passes on, unless state or locals differ."""
    if not problem.graph.local and not problem.graph.declaration.carry:
        return matched.map
    points = sampling.points.reshape(-1, sampling.points.shape[-1])
    factor = covariance_factor(np.atleast_2d(np.cov(points, rowvar=False)), sampling.names)
    return match_map(points, factor).map


def _target_in_coordinates(problem: Problem, points: np.ndarray) -> np.ndarray:
    """Return the target's log density [point] at coordinates and local variables [point, x].

    The sampler's target is a density of whitened points; the slope of the whitening takes it over.
    """
    if problem.prior is None:
        return log_density(problem.engine, points, problem.arguments)
    size = problem.graph.coordinates.size
    z, log_slope = problem.prior.map.inverse(points[:, :size])
    x = np.concatenate([z, points[:, size:]], axis=1)
    return log_density(problem.engine, x, problem.arguments) + log_slope
