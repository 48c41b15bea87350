"""One update: `step(prior, batch, ...) -> (posterior, info)`, pure and seeded.

Frozen inputs, no ledger, no global random state: the same prior, batches, model and seed give the same
posterior, bit by bit on the same versions of the libraries.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd
import xarray as xr

from lindley.batch.batch import Batch
from lindley.inference import trace
from lindley.inference.diagnostics import Gate, Thresholds
from lindley.inference.fit import fit
from lindley.inference.hindsight import Segment
from lindley.inference.sampling import FitSettings, Progress
from lindley.model.advice import advice
from lindley.model.declaration import Declaration
from lindley.prior.belief import Belief
from lindley.timing import Phases


@dataclass(frozen=True)
class Info:
    """Everything about a step beside the belief itself.

    Parameters
    ----------
    trace
        DataTree with the groups posterior, sample_stats, observed_data and, where they can be drawn,
        prior and posterior_predictive (ArviZ's schema), and ``coordinates`` with the draws that passed on.
    summary
        One row per parameter (see `lindley.inference.trace.summary`).
    gate
        Verdict on the fit.
    settings, first, attempts
        Sampler settings of the last attempt and of the first one, and how many there were.
    figures
        Scalar results: R-hat, ESS, divergences, k-hat, log predictive, budget and so on.
    likelihood, genesis
        The model in words: distribution of each observed variable; genesis priors and hyperpriors.
    graph_digest
        Sha256 of the target's structure.
    inlined_constants
        Arrays that the model holds as constants: pm.Data would let batches of other sizes reuse the
        compiled function.
    compiled_before
        Whether the process had the compiled target already.
    pooled
        How several batches were fitted together: ``rows``, ``terms``, or empty for one batch.
    undone
        How many segments behind the prior were fitted again, because its match moved the result.
    started_from
        Digest of the matched prior that the fit started from, before it was widened by forgetting; None
        for the model's own priors.
    distances
        Wasserstein-1 distance of the match by coordinate, in sds.
    doubts
        Why the match is not trusted; empty where it is.
    forgetting
        Discounts used, the grid's scores of this batch, and what the next link goes by.
    seconds
        Wall-clock seconds by phase.
    advice
        What would make the next updates cheaper, in sentences; not recorded.
    """

    trace: xr.DataTree
    summary: pd.DataFrame
    gate: Gate
    settings: FitSettings
    first: FitSettings
    attempts: int
    metrics: dict[str, float]
    likelihood: dict[str, str]
    genesis: dict[str, dict[str, str]]
    graph_digest: str
    inlined_constants: int
    compiled_before: bool
    pooled: str = ""
    undone: int = 0
    started_from: str | None = None
    distances: dict[str, float] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    forgetting: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    advice: tuple[str, ...] = ()


def step(
    prior: Belief | None,
    batch: Batch,
    declaration: Declaration,
    *,
    carried: tuple[str, ...],
    seed: int,
    replayed: Sequence[Batch] = (),
    behind: Sequence[Segment] = (),
    head: Belief | None = None,
    near: Belief | None = None,
    constants: dict[str, float] | None = None,
    settings: FitSettings | None = None,
    thresholds: Thresholds | None = None,
    progress: Progress | None = None,
) -> tuple[Belief, Info]:
    """Update a belief with one batch.

    Parameters
    ----------
    prior
        The belief that the fit starts from; None at genesis, where the model's own priors hold.
    batch
        The validated batch.
    declaration
        The chain's declaration.
    carried
        Names of the carried variables.
    seed
        Seed of everything random in the step.
    replayed
        Batches since `prior`, oldest first, that are fitted again together with the new one.
    behind
        How `prior` came about, and what came before it, newest first: where hindsight shows that a match
        moved the result, the batches behind it are fitted again too.
    head
        The belief before the batch, where that is not `prior`.
    near
        A belief close to the result, in whose whitened space a fit from genesis moves; `head` by default.
    constants
        Frozen constants, where the declaration has some.
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
    phases = Phases()
    settings = settings or FitSettings.of(declaration.policy)
    found = fit(
        prior,
        [*replayed, batch],
        declaration,
        carried=carried,
        seed=seed,
        behind=behind,
        head=head,
        near=near,
        constants=constants,
        settings=settings,
        thresholds=thresholds,
        progress=progress,
        phases=phases,
    )
    known = prior if not replayed else head
    before = known.matched if known is not None else None
    with phases("predict"):
        tree = trace.build(found.problem, found.draws, batch, before=before, seed=seed)
        trace.add_weights(tree, found.calibration.weights)
        table = trace.summary(tree, found.problem.graph, found.problem.coordinates)
    problem, verdict = found.problem, found.verdict
    info = Info(
        trace=tree,
        summary=table,
        gate=verdict.gate,
        settings=found.settings,
        first=settings,
        attempts=found.attempts,
        metrics=verdict.metrics,
        likelihood=trace.likelihood_text(problem.graph.model),
        genesis=trace.genesis_text(problem.graph),
        graph_digest=problem.digest,
        inlined_constants=problem.inlined,
        compiled_before=problem.compiled_before,
        pooled=problem.pooled,
        undone=found.undone,
        started_from=found.start.matched.digest if found.start else None,
        distances=dict(zip(problem.coordinates.names, verdict.quality.distances.tolist(), strict=True)),
        doubts=verdict.doubts,
        forgetting=found.forgetting,
        seconds=phases.seconds,
        advice=advice(
            problem.graph,
            inlined=problem.inlined,
            compiled_before=problem.compiled_before,
            seconds=phases.seconds.get("compile", 0.0),
        ),
    )
    return found.belief, info
