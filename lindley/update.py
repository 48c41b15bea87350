"""One update: `step(prior, batch, ...) -> (posterior, info)`, pure and seeded.

Frozen inputs, no ledger, no global random state: the same prior, batch, model and seed give the same
posterior, bit by bit on the same versions of the libraries.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import pandas as pd
import xarray as xr

from lindley import judging, trace
from lindley.batch import Batch
from lindley.belief import Belief
from lindley.declaration import Declaration
from lindley.diagnostics import Gate, Thresholds
from lindley.fit import FitSettings, Progress, sample
from lindley.prior import match
from lindley.problem import Phases, passing_draws, prepare, start_from
from lindley.seeds import derive_seed


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
            sampling = judging.judge_sampling(problem, fitted, thresholds)
        if not sampling.reasons:
            break
    with phases("match"):
        passing = passing_draws(problem.graph, fitted)
        flat = passing.reshape(-1, passing.shape[-1])
        matched = match(flat, problem.graph.coordinates, state=frozenset(declaration.carry))
    with phases("diagnose"):
        gate, figures = judging.judge(problem, fitted, sampling, matched, prior, seed, thresholds)
    with phases("predict"):
        tree = trace.build(problem, fitted, passing, batch, seed=seed)
        table = trace.summary(tree, problem.graph)
    info = Info(
        trace=tree,
        summary=table,
        gate=gate,
        settings=chosen,
        attempts=attempt,
        figures=figures,
        likelihood=trace.likelihood_text(problem.graph.model),
        genesis=trace.genesis_text(problem.graph),
        graph_digest=problem.target.digest,
        baked_constants=problem.target.baked,
        compiled_before=problem.compiled_before,
        seconds=phases.seconds,
    )
    return Belief(matched=matched, budget=figures["budget"]), info
