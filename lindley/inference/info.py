"""What a step returns beside the belief: the fit with its draws, and what else a record states of it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import xarray as xr

from lindley.inference import trace
from lindley.inference.assessment import Assessment
from lindley.inference.diagnostics.gate import Gate
from lindley.inference.modes.sampled import Sampled
from lindley.inference.sampling import Draws
from lindley.model.meaning.adding_up import Meaning
from lindley.model.words import genesis_text, likelihood_text
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior
from lindley.report.omissions import Omissions
from lindley.target.problem import Problem
from lindley.timing import PREDICT, Phases


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where the draws come from, as the record of a link states it.

    Parameters
    ----------
    sampler
        Sampler settings of the last attempt, what further attempts changed as it was in the first
        (``first_...``), the seed and the number of attempts; of an imported trace, its origin.
    attempts
        What was tried, in its order (see `lindley.inference.modes.attempts`).
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
    attempts: tuple[dict[str, Any], ...] = ()
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


def info_of(
    found: Fit,
    tree: xr.DataTree,
    phases: Phases,
    omissions: Omissions,
    before: MatchedPrior | None = None,
) -> Info:
    """Describe a fit, or an adopted trace, whose draws are in `tree`; `before` is the matched prior."""
    graph = found.sampled.graph
    with phases(PREDICT):
        sampled = found.sampled
        table = trace.summary(tree, graph, sampled.coordinates, omissions, before, sampled.sampling)
    return Info(
        fit=found.warned(tuple(omissions.sentences)),
        trace=tree,
        summary=table,
        likelihood=likelihood_text(graph.model),
        genesis=genesis_text(graph),
        seconds=phases.seconds,
    )
