"""One update: `step(prior, batch, ...) -> (posterior, info)`, pure and seeded.

Frozen inputs, no ledger, no global random state: the same prior, batch, model and seed give the same
posterior, bit by bit on the same versions of the libraries.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr

from lindley import diagnostics, trace
from lindley.batch import Batch
from lindley.declaration import Declaration
from lindley.diagnostics import Convergence, Gate, Importance, Thresholds
from lindley.fit import Draws, FitSettings, Progress, log_density, sample
from lindley.prior import match
from lindley.problem import Belief, Phases, Problem, passing_draws, prepare, start_from


@dataclass(frozen=True)
class Info:
    """Everything about a step beside the belief itself.

    Parameters
    ----------
    trace
        DataTree with the groups posterior, sample_stats, observed_data and, where they can be drawn,
        prior and posterior_predictive (ArviZ's schema), and ``coordinates`` with the draws that passed on.
    summary
        One row per parameter (see `lindley.trace.summary`).
    gate
        Verdict on the fit.
    settings, attempts
        Sampler settings of the last attempt, and how many there were.
    figures
        Scalar results: R-hat, ESS, divergences, k-hat, log predictive, budget and so on.
    likelihood, genesis
        The model in words: distribution of each observed variable; genesis priors and hyperpriors.
    graph_digest
        Sha256 of the target's structure.
    baked_constants
        Arrays that the model holds as constants: pm.Data would let batches of other sizes reuse the
        compiled function.
    compiled_before
        Whether the process had the compiled target already.
    seconds
        Wall-clock seconds by phase.
    """

    trace: xr.DataTree
    summary: pd.DataFrame
    gate: Gate
    settings: FitSettings
    attempts: int
    figures: dict[str, float]
    likelihood: dict[str, str]
    genesis: dict[str, dict[str, str]]
    graph_digest: str
    baked_constants: int
    compiled_before: bool
    seconds: dict[str, float] = field(default_factory=dict)


def derive_seed(*digests: str) -> int:
    """Return the seed of a link, from the digests of its prior, batch and model."""
    return int.from_bytes(hashlib.sha256("/".join(digests).encode()).digest()[:8], "big") >> 1


def step(
    prior: Belief | None,
    batch: Batch,
    declaration: Declaration,
    *,
    carried: tuple[str, ...],
    seed: int,
    settings: FitSettings | None = None,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> tuple[Belief, Info]:
    """Update a belief with one batch.

    Parameters
    ----------
    prior
        The belief before; None at the first link, where the model's own priors hold.
    batch
        The validated batch.
    declaration
        The chain's declaration.
    carried
        Names of the carried variables.
    seed
        Seed of everything random in the step.
    settings, thresholds
        Sampler settings and the gate's thresholds.
    progress
        Called from another thread with steps done and steps in all.

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
    chosen = settings = settings or FitSettings()
    thresholds = thresholds or Thresholds()
    phases = Phases()
    problem = prepare(prior, batch, declaration, carried, phases)
    for attempt in range(1, settings.attempts + 1):
        chosen = settings if attempt == 1 else chosen.harder()
        with phases("sample"):
            fitted = sample(
                problem.engine,
                problem.prior_arrays,
                problem.target.data_values,
                start=start_from(problem),
                settings=chosen,
                seed=derive_seed(str(seed), str(attempt)),
                progress=progress,
            )
        with phases("diagnose"):
            verdict = _diagnose(problem, fitted, prior, seed, thresholds)
        if verdict.gate.passed:
            break
    with phases("match"):
        passing = passing_draws(problem.graph, fitted)
        matched = match(passing.reshape(-1, passing.shape[-1]), problem.graph.coordinates)
    with phases("predict"):
        tree = trace.build(problem, fitted, passing, batch, seed=seed)
        table = trace.summary(tree, problem.graph)
    info = Info(
        trace=tree,
        summary=table,
        gate=verdict.gate,
        settings=chosen,
        attempts=attempt,
        figures=verdict.figures,
        likelihood=trace.likelihood_text(problem.graph.model),
        genesis=trace.genesis_text(problem.graph),
        graph_digest=problem.target.digest,
        baked_constants=problem.target.baked,
        compiled_before=problem.compiled_before,
        seconds=phases.seconds,
    )
    return Belief(matched=matched, budget=verdict.figures["budget"]), info


@dataclass(frozen=True)
class _Verdict:
    gate: Gate
    figures: dict[str, float]


def _diagnose(
    problem: Problem, draws: Draws, prior: Belief | None, seed: int, thresholds: Thresholds
) -> _Verdict:
    """Compute the diagnostics of one attempt and hold them against the gate."""
    size = problem.graph.coordinates.size
    names = problem.graph.coordinates.names
    names += [name for variable in problem.graph.local for name in variable.block.names()]
    flat = draws.x.reshape(-1, draws.x.shape[-1])
    # Convergence on the coordinates themselves; whitening only rotates and scales them.
    moved = np.concatenate([draws.quantities["u"], draws.x[..., size:]], axis=-1)
    result = diagnostics.convergence(moved)
    fit_quality = diagnostics.importance(
        flat,
        lambda x: log_density(problem.engine, x, problem.arguments),
        rng=np.random.default_rng(derive_seed(str(seed), "importance")),
    )
    divergences = float(np.mean(draws.stats["diverging"]))
    conflict_p = diagnostics.conflict(flat[:, :size]) if prior is not None else None
    budget = (prior.budget if prior is not None else 0.0) + (size + 1) / max(result.ess_min, 1.0)
    gate = diagnostics.decide(
        names,
        result,
        divergences=divergences,
        k_hat=fit_quality.k_hat,
        budget=budget,
        conflict_p=conflict_p,
        thresholds=thresholds,
    )
    return _Verdict(gate, _figures(problem, draws, result, fit_quality, divergences, budget, conflict_p))


def _figures(
    problem: Problem,
    draws: Draws,
    result: Convergence,
    quality: Importance,
    divergences: float,
    budget: float,
    conflict_p: float | None,
) -> dict[str, float]:
    """Collect the scalar results of a fit; what is not defined is left out."""
    figures = {
        "r_hat_max": float(result.r_hat.max()),
        "ess_bulk_min": float(result.ess_bulk.min()),
        "ess_tail_min": float(result.ess_tail.min()),
        "divergences": float(np.sum(draws.stats["diverging"])),
        "divergence_rate": divergences,
        "k_hat": quality.k_hat,
        "budget": budget,
        "steps_per_draw": float(np.mean(draws.stats["n_steps"])),
    }
    if trace.proper(problem.graph.model, problem.prior is None):
        figures["log_predictive"] = quality.log_evidence
        figures["log_predictive_se"] = quality.log_evidence_se
    if conflict_p is not None:
        figures["conflict_p"] = conflict_p
    return {name: value for name, value in figures.items() if np.isfinite(value)}
