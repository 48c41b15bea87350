"""What a fit says of itself before it samples: everything that can fail without the posterior's draws.

Sampling takes minutes; what would fail after it fails here, in seconds. What is only for people is left out
with a sentence.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lindley.errors import ModelRefused, reason
from lindley.inference.predictive import predictive_draws
from lindley.model.graph import ModelGraph, slices
from lindley.model.priors import prior_coordinates, why_not_drawn
from lindley.prior.matched import MatchedPrior
from lindley.report.omissions import Omissions
from lindley.target.problem import Problem

#: Draws of the prior that are kept.
PRIOR_DRAWS = 1000
#: Points at which it is tried whether the density depends on every variable.
_POINTS = 3


@dataclass(frozen=True)
class Rehearsal:
    """What was found out before sampling.

    Parameters
    ----------
    problem
        The prepared step.
    prior
        Draws of the belief before the batch, arrays [draw, ...] by name; None where there can be none.
    predicted
        Names of the observed variables that can be drawn.
    not_drawn
        Why the other observed variables, and free ones under genesis priors, cannot be drawn, by name.
    omissions
        What else is left out, in sentences.
    seconds
        Of compiling before.
    """

    problem: Problem
    prior: dict[str, np.ndarray] | None
    predicted: tuple[str, ...]
    not_drawn: dict[str, str]
    omissions: Omissions
    seconds: float = 0.0


def rehearse(problem: Problem, before: MatchedPrior | None, *, seed: int) -> Rehearsal:
    """Find out before sampling what a prepared step can show, and refuse what it cannot fit.

    Parameters
    ----------
    before
        Matched prior of the belief before the newest batch; None where the model's own priors hold.
    seed
        Of the prior draws.

    Raises
    ------
    ModelRefused
        If a variable has no density, so that its posterior is improper.
    """
    graph, omissions, prior = problem.graph, Omissions(), None
    if problem.prior is None and not problem.pooled:
        _require_a_density(problem)
    with omissions.attempt("prior draws"):
        prior = prior_draws(problem, before, seed=seed)
    not_drawn = why_not_drawn(graph) if prior is None and before is None and not omissions.sentences else {}
    omissions.sentences += [f"prior draws left out: {why}" for name, why in not_drawn.items() if not name]
    predicted, why = _predictable(problem)
    named = {name: why for name, why in not_drawn.items() if name}
    return Rehearsal(problem, prior, predicted, named | why, omissions)


def prior_draws(
    problem: Problem, before: MatchedPrior | None, *, seed: int, size: int = PRIOR_DRAWS
) -> dict[str, np.ndarray] | None:
    """Draw the carried variables from the belief before the batch; None where genesis priors cannot be.

    Parameters
    ----------
    before
        That belief's matched prior; None where the model's own priors hold. Elements that it does not
        have are drawn from the model's own prior given the others.

    Returns
    -------
    dict or None
        Arrays [draw, ...] by name: carried variables and, when nothing is local or new, deterministics.
    """
    rng = np.random.default_rng([seed, 1])
    graph = problem.graph
    names = graph.coordinates.names
    known = names if before is None else before.coordinates.names
    new = np.array([name not in set(known) for name in names])
    if before is None:
        u = prior_coordinates(graph, size=size, seed=int(rng.integers(2**31)))
        if u is None:
            return None
    else:
        u = np.zeros((size, len(names)))
        place = [known.index(name) for name in np.array(names)[~new]]
        u[:, ~new] = before.map.sample(rng, size)[:, place]
    drawn = problem.quantities(u[:, : len(names)])
    found = {variable.name: drawn.values[variable.name] for variable in graph.carried}
    if not graph.local and not new.any():
        found |= drawn.deterministics
    return _with_new_elements(graph, found, new, rng) if new.any() else found


def _with_new_elements(
    graph: ModelGraph, values: dict[str, np.ndarray], new: np.ndarray, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Draw the elements that are `new` [coordinate] from the model's own prior given the others."""
    found, start = dict(values), 0
    for variable in graph.carried:
        size = variable.block.size
        mask = new[start : start + size].reshape(variable.block.value_shape)
        start += size
        if mask.any():
            given = {name: value for name, value in found.items() if name != variable.name}
            drawn = predictive_draws(graph.model, given, rng=rng, variables=[variable.rv])[variable.name]
            found[variable.name] = np.where(mask, drawn, found[variable.name])
    return found


def _require_a_density(problem: Problem) -> None:
    """Refuse variables that the target's gradient never moves: nothing is known of them."""
    rng = np.random.default_rng(0)
    points = np.array([problem.starts.central(rng) for _ in range(_POINTS)])
    gradients = problem.bound.log_densities(points)[1]
    for variable, place in slices(problem.graph.free):
        if variable.block.size and not gradients[:, place].any():
            raise ModelRefused(
                f"The density of {problem.graph.declaration.name} does not depend on {variable.name!r}",
                expected="a prior, or observations, that the variable has an effect on",
                found="a gradient of zero at every point tried: its posterior is improper",
                todo="give the variable a proper prior, or leave it out of the model",
            )


def _predictable(problem: Problem) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the observed variables that can be drawn, and why the others cannot, each tried once."""
    model, rng = problem.graph.compilable.model, np.random.default_rng(0)
    values = problem.bound.evaluate(problem.starts.central(rng)[None]).values
    names = tuple(rv.name for rv in model.observed_RVs)
    why: dict[str, str] = {}
    try:
        predictive_draws(model, values, rng=rng)
    except Exception as error:  # a distribution's own code may fail in any way
        why = {"": reason(error)} if len(names) > 1 else dict.fromkeys(names, _why(error))
    if "" not in why:
        return tuple(name for name in names if name not in why), why
    # One of several fails: each is tried by itself.
    why = {}
    for rv in model.observed_RVs:
        try:
            predictive_draws(model, values, rng=rng, variables=[rv])
        except Exception as error:
            why[rv.name] = _why(error)
    return tuple(name for name in names if name not in why), why


def _why(error: Exception) -> str:
    """Return why a distribution cannot be drawn from."""
    if isinstance(error, NotImplementedError):
        return "its distribution has no random function"
    return reason(error)
