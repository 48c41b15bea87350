"""The attempt that comes before NUTS: independent draws with a certificate, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lindley.inference.approximation.independent import Independent, draw, fitted_proposal, locate
from lindley.inference.inputs import Options, most_draws
from lindley.inference.modes.attempts import MODE, Attempt
from lindley.inference.modes.parts import Part, Parts
from lindley.inference.sampling import APPROXIMATION, Draws, FitSettings, Sampling, assess_sampling
from lindley.seeds import derive_seed
from lindley.target.problem import Problem
from lindley.timing import SAMPLE, Phases

#: The policy of `Policy.sampler` that tries it.
AUTO = "auto"
#: Points that ascents start from: draws of the model's own prior; fewer of a belief's, whose fit looked for
#: modes before.
_STARTS, _FEWER = 16, 6
#: Draws, as a multiple of those asked for first, at most.
_MOST_DRAWS = 4


@dataclass(frozen=True)
class Approximated:
    """What came of the attempt.

    Parameters
    ----------
    parts
        The draws, as they would be of chains; None where they are not accepted or none were tried.
    stated
        What a record states of it beside the sampler's settings.
    """

    parts: Parts | None = None
    stated: dict[str, Any] = field(default_factory=dict)


def approximated(problem: Problem, first: FitSettings, options: Options, phases: Phases) -> Approximated:
    """Try independent draws where the policy allows it.

    Parameters
    ----------
    problem
        The target.
    first
        Settings of a first attempt: chains, draws, and the effective sample size that is asked for.
    options, phases
        Of the fit.
    """
    if problem.graph.declaration.policy.sampler != AUTO:
        return Approximated()
    why = unsound(problem)
    if why:
        return Approximated(stated={"declined": why})
    with phases(SAMPLE):
        return _tried(problem, first, options)


def unsound(problem: Problem) -> str:
    """Return why an approximation is not tried; empty where it may be.

    With local variables or carried state a posterior has many dimensions, and its mass is not where its
    mode is; angles have a mode in each turn; and a mixture has modes by itself.
    """
    declaration = problem.graph.declaration
    if problem.local_names:
        return "the model has local variables"
    if declaration.carry:
        return "the chain carries state"
    if problem.components or (declaration.policy.robust and not problem.genesis):
        return "the prior is a mixture"
    if problem.coordinates.circular.any():
        return "a variable is circular"
    return ""


def _tried(problem: Problem, first: FitSettings, options: Options) -> Approximated:
    """Draw until as many draws are effective as are asked for, or they are not accepted."""
    rng, bound = np.random.default_rng(derive_seed(str(options.seed), "approximation")), problem.bound
    mode = locate(bound.log_densities, *starting_points(problem, rng))
    if isinstance(mode, str):
        return Approximated(stated={"declined": mode})
    proposal, hopeless = fitted_proposal(bound.log_densities, mode, rng)
    if hopeless:
        return Approximated(stated={"declined": hopeless})
    settings = first
    while True:
        found = draw(bound.log_densities, proposal, settings.chains, settings.draws, rng, mode.ascents)
        certificate = found.certificate
        if certificate.refusal:
            return Approximated(stated={"declined": certificate.refusal})
        part = Part(problem, _sampling(problem, found, options))
        reasons, ess = part.sampling.reasons, part.sampling.convergence.ess_min
        if not reasons and ess >= first.ess:
            made = Attempt.made("", 1, settings, MODE, part.sampling)
            stated = {"sampler": APPROXIMATION} | certificate.as_dict()
            return Approximated(Parts((part,), settings, 1, tried=(made,)), stated)
        longer = settings.longer(ess).at_most(most_draws(bound.size, first))
        if not settings.draws < longer.draws <= _MOST_DRAWS * first.draws:
            why = reasons[0] if reasons else f"ESS {ess:.0f}, below {first.ess}"
            return Approximated(stated={"declined": f"{why}, with {settings.draws:,} draws a chain"})
        settings = longer


def _sampling(problem: Problem, found: Independent, options: Options) -> Sampling:
    """Return the draws as the gate judges those of chains."""
    counts = np.ones(found.log_density.shape, dtype=int)
    stats = {"diverging": counts == 0, "n_steps": counts, "log_density": found.log_density}
    draws = Draws(x=found.x, quantities=problem.bound.evaluate(found.x), stats=stats)
    return assess_sampling(problem.names, problem.points(found.x), draws, options.thresholds)


def starting_points(problem: Problem, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return points [start, x] that ascents start from, and the scale [x] on which they differ."""
    starts = problem.starts
    count = _STARTS if problem.genesis else _FEWER
    points = np.array([starts.dispersed(rng) for _ in range(count)])
    low, high = np.quantile(points, [0.16, 0.84], axis=0)
    scale = np.clip((high - low) / 2, 1e-8, 1e8)
    # Whitened points have the scale of the belief.
    belief = len(problem.layout.belief_at)
    scale[:belief] = 1.0
    return points, scale
