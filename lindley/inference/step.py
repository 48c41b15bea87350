"""One update: `step(start, data, options) -> (belief, info)`, pure and seeded.

Frozen inputs, no ledger, no global random state: the same start, data and options give the same posterior,
bit by bit on the same versions of the libraries. `adopt` gives the same for a trace that was sampled
elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pandas as pd
import xarray as xr

from lindley.inference import groups, trace
from lindley.inference.assessment import assess
from lindley.inference.diagnostics.gate import Gate
from lindley.inference.diagnostics.hindsight import Lineage
from lindley.inference.fit import Fit, Provenance, fit
from lindley.inference.foreign_trace import quantities_of
from lindley.inference.groups import add_modes
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.modes.carrying import matched_to
from lindley.inference.modes.sampled import Sampled
from lindley.inference.rehearsal import Rehearsal, rehearse
from lindley.inference.sampling import Draws, assess_sampling
from lindley.model.advice import advice
from lindley.model.graph import ModelGraph
from lindley.model.meaning.adding_up import Meaning
from lindley.model.words import genesis_text, likelihood_text
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.prior.stein import equal_weights
from lindley.report.omissions import Omissions
from lindley.target.problem import Problem
from lindley.timing import COMPILE, DIAGNOSE, MATCH, PREDICT, Phases


@dataclass(frozen=True, kw_only=True)
class Info:
    """Everything about a step beside the belief itself; a link's record and files are made from it.

    Parameters
    ----------
    fit
        The fit: gate, metrics, doubts, settings and so on.
    trace
        DataTree with the groups posterior, sample_stats, observed_data and, where they can be drawn,
        prior and posterior_predictive (ArviZ's schema), and ``coordinates`` with the carried draws.
    summary
        One row per parameter (see `lindley.inference.trace.summary`).
    likelihood, genesis
        The model in words: distribution of each observed variable; genesis priors and hyperpriors.
    not_drawn
        Why observed variables, or free ones under genesis priors, cannot be drawn, by name.
    seconds
        Wall-clock seconds by phase.
    meaning
        Whether the rows of two batches add up.
    advice
        What would make the next updates cheaper, in sentences; not recorded.
    notes
        What was found out before the first fit, in sentences for the result; not recorded.
    """

    fit: Fit
    trace: xr.DataTree
    summary: pd.DataFrame
    likelihood: dict[str, str]
    genesis: dict[str, dict[str, str]]
    not_drawn: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    meaning: Meaning = field(default_factory=Meaning)
    advice: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def gate(self) -> Gate:
        """Whether the fit passed, with reasons and warnings."""
        return self.fit.assessment.gate

    @property
    def metrics(self) -> dict[str, float]:
        """Scalar results by name."""
        return self.fit.assessment.metrics

    def stating(self, meaning: Meaning, notes: tuple[str, ...]) -> Info:
        """Return the same with what was found out about the model, which the gate warns of."""
        return replace(self, fit=self.fit.warned(meaning.warnings), meaning=meaning, notes=notes)

    def with_findings(self, metrics: dict[str, float], warnings: tuple[str, ...] = ()) -> Info:
        """Return the same with further metrics and warnings."""
        warned = self.fit.warned(warnings)
        assessment = replace(warned.assessment, metrics=self.metrics | metrics)
        return replace(self, fit=replace(self.fit, assessment=assessment))


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
    info = _info(found, tree, phases, rehearsal.omissions, before.matched if before is not None else None)
    return found.belief, replace(info, not_drawn=rehearsal.not_drawn, advice=further)


def adopt(
    found: xr.DataTree, graph: ModelGraph, origin: dict[str, str], options: Options
) -> tuple[Belief, Info]:
    """Make a belief of a trace that was sampled elsewhere; `step` without a fit.

    Parameters
    ----------
    found
        A trace in ArviZ's schema, with the group posterior.
    graph
        The chain's model.
    origin
        Where the trace comes from, for the record.
    options
        Seed and thresholds. Convergence beyond them and a match that is not trusted are warnings: the draws
        cannot be made again, and there are no batches to fit again.

    Raises
    ------
    ModelRefused
        If the trace lacks a carried variable, has another shape or other labels of it, has draws that are
        not numbers, or draws outside its support.
    FitFailed
        If there are too few draws for the dimension.
    """
    phases = Phases()
    quantities, notes = quantities_of(found, graph)
    draws = Draws(x=quantities.u, quantities=quantities, stats={})
    with phases(DIAGNOSE):
        sampling = assess_sampling(graph.coordinates.names, quantities.u, draws, options.thresholds)
    with phases(MATCH):
        weights = equal_weights(quantities.u.shape[0] * quantities.u.shape[1])
        sampled = Sampled(graph=graph, sampling=sampling, calibration=weights)
        matched = matched_to(sampled)
    with phases(DIAGNOSE):
        assessment = assess(sampled, matched, Lineage(), seed=options.seed, thresholds=options.thresholds)
    gate = replace(assessment.gate, warnings=(*notes, *assessment.gate.warnings))
    assessment = replace(assessment, gate=gate)
    belief = assessment.belief(matched, 0, {})
    made = Fit(
        belief=belief, sampled=sampled, assessment=assessment, provenance=Provenance(sampler=dict(origin))
    )
    tree = groups.assemble(graph, graph.coordinates, quantities.named, quantities.carried)
    return belief, _info(made, tree, phases, Omissions())


def _info(
    found: Fit,
    tree: xr.DataTree,
    phases: Phases,
    omissions: Omissions,
    before: MatchedPrior | None = None,
) -> Info:
    graph = found.sampled.graph
    with phases(PREDICT):
        table = trace.summary(tree, graph, found.sampled.coordinates, omissions, before)
    return Info(
        fit=found.warned(tuple(omissions.sentences)),
        trace=tree,
        summary=table,
        likelihood=likelihood_text(graph.model),
        genesis=genesis_text(graph),
        seconds=phases.seconds,
    )
