"""Posterior simulation-based calibration of a chain's next updates.

Parameters are drawn from a belief, batches are simulated from them, and the chain is updated with these
batches. If prior, sampler and matching are right, the rank of the true value among the draws of the
posterior after K updates is uniform, whatever the belief it started from (Talts et al. 2018,
arXiv:1804.06788; Säilynoja et al. 2025, arXiv:2502.03279, for calibration given data).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from scipy import stats

from lindley.batch.batch import Batch, batch_from_frame
from lindley.errors import ModelRefused
from lindley.inference.inputs import Data, Options
from lindley.inference.memory_chain import MemoryChain, advance
from lindley.inference.predictive import predictive_draws
from lindley.model import graph as model_graph
from lindley.model.declaration import Declaration
from lindley.model.graph import ModelGraph
from lindley.model.priors import prior_coordinates
from lindley.prior.belief import Belief
from lindley.seeds import derive_seed
from lindley.target.prepare import prepare
from lindley.timing import Phases

#: Draws among which a true value is ranked; evenly spaced, so that they are nearly independent.
RANKED = 99
#: Probability that a calibrated chain is reported as not calibrated, over all parameters together.
LEVEL = 0.01


@dataclass(frozen=True)
class SbcResult:
    """Ranks of true values among posterior draws.

    Parameters
    ----------
    names
        Coordinates of the carried variables, without carried state.
    ranks
        Array [simulation, coordinate] of integers from 0 to `RANKED`.
    updates
        Updates of each simulated chain.
    level
        Of the test over all coordinates together.
    """

    names: tuple[str, ...]
    ranks: np.ndarray
    updates: int
    level: float = LEVEL

    @property
    def simulations(self) -> int:
        """Number of simulated chains."""
        return len(self.ranks)

    @property
    def p_values(self) -> dict[str, float]:
        """Kolmogorov-Smirnov p-value of each coordinate's ranks against the uniform distribution."""
        # Midpoints of the cells of ranks, which keep the test conservative.
        places = (self.ranks + 0.5) / (RANKED + 1)
        return {
            name: float(stats.kstest(column, "uniform").pvalue)
            for name, column in zip(self.names, places.T, strict=True)
        }

    @property
    def uniform(self) -> bool:
        """Whether the ranks of every coordinate are uniform at the level, by Bonferroni."""
        return min(self.p_values.values()) >= self.level / len(self.names)

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "simulations": self.simulations,
            "updates": self.updates,
            "level": self.level,
            "uniform": self.uniform,
            "p_values": self.p_values,
            "ranks": {name: column.tolist() for name, column in zip(self.names, self.ranks.T, strict=True)},
        }


def calibrate(
    belief: Belief | None, template: Data, options: Options, *, updates: int, simulations: int
) -> SbcResult:
    """Rank true values among the posteriors of simulated chains.

    Parameters
    ----------
    belief
        The belief that true values are drawn from and chains start from; None for the model's own priors.
    template
        The chain's data: simulated batches have the inputs of the newest batch, and other outcomes.
    options
        Seed, sampler settings and thresholds of the updates; its progress counts updates.
    updates, simulations
        Updates of each chain, and number of chains.

    Raises
    ------
    ModelRefused
        If the model's own priors are improper, its outcomes cannot be identified from the declaration, or
        the chain has a context, forgets, mixes or has potentials that data cannot be drawn from.
    """
    declaration = template.declaration
    _require_simulable(declaration, belief)
    model = model_graph.build(declaration, template.newest.frame(), constants=template.constants)
    graph = model_graph.take_apart(declaration, model, template.carried)
    owners = [variable.name for variable in graph.carried for _ in range(variable.block.size)]
    kept = [i for i, name in enumerate(owners) if name not in declaration.carry]
    names = tuple(graph.coordinates.names[i] for i in kept)
    ranks = np.empty((simulations, len(kept)), dtype=int)
    seed = options.seed
    for simulation in range(simulations):
        rng = np.random.default_rng([seed, simulation])
        truth = _truth(graph, belief, rng)
        values = _values(template, graph, belief, truth)
        chain = MemoryChain(root=belief)
        for update in range(updates):
            batch, ends = _simulated(template, graph, values, rng)
            values |= ends
            chain, fit = advance(
                chain,
                replace(template, batches=(batch,)),
                replace(options, seed=derive_seed(str(seed), str(simulation), str(update)), progress=None),
            )
            if options.progress is not None:
                options.progress(simulation * updates + update + 1, simulations * updates)
        coordinates = fit.sampled.coordinates.names
        u = fit.sampled.carried
        chosen = u[np.linspace(0, len(u) - 1, RANKED).astype(int)][:, [coordinates.index(n) for n in names]]
        ranks[simulation] = (chosen < truth[kept]).sum(axis=0)
    return SbcResult(names, ranks, updates)


def _require_simulable(declaration: Declaration, belief: Belief | None) -> None:
    """Refuse chains whose batches cannot be simulated from the belief as the chain interprets it."""
    policy = declaration.policy
    likelihoods = [name for name, kind in declaration.potentials.items() if kind == "likelihood"]
    own = list(declaration.potentials) if belief is None else likelihoods
    wrong = {
        f"a context of {declaration.context} rows before its own": bool(declaration.context),
        "a policy that forgets: parameters may change between batches": bool(policy.forget),
        "a robust mixture: true values come from the belief alone": bool(policy.robust),
        f"the potentials {', '.join(own)}, from which no data can be drawn": bool(own),
    }
    found = [text for text, is_so in wrong.items() if is_so]
    if found:
        raise ModelRefused(
            f"The batches of {declaration.name} cannot be simulated",
            expected="a chain whose prior and likelihood are distributions that can be drawn from",
            found="; ".join(found),
            todo="calibrate a chain without it, from the same model file under another name",
        )


def _truth(graph: ModelGraph, belief: Belief | None, rng: np.random.Generator) -> np.ndarray:
    """Draw true coordinates of the carried variables, in the model's order."""
    if belief is not None:
        known = belief.matched.coordinates.names
        new = [name for name in graph.coordinates.names if name not in known]
        if new:
            raise ModelRefused(
                f"True values of {graph.declaration.name} cannot be drawn from its belief",
                expected=f"a batch whose labels the belief knows: {', '.join(known[:20])}",
                found=f"new coordinates {', '.join(new[:5])}",
                todo="update the chain with this batch first",
            )
        # The belief may hold labels that the batch does not have.
        places = [known.index(name) for name in graph.coordinates.names]
        return np.asarray(belief.matched.map.sample(rng, 1)[0][places])
    drawn = prior_coordinates(graph, size=1, seed=int(rng.integers(2**31)))
    if drawn is None:
        raise ModelRefused(
            f"True values of {graph.declaration.name} cannot be drawn from improper priors",
            expected="proper priors, or a chain with a link to start from",
            found="a flat prior",
            todo="calibrate after the first link",
        )
    return drawn[0][: graph.coordinates.size]


def _values(
    template: Data, graph: ModelGraph, belief: Belief | None, truth: np.ndarray
) -> dict[str, np.ndarray]:
    """Take true coordinates to natural-scale values [sample, ...] of the carried variables."""
    problem = prepare(
        belief.matched if belief else None,
        template.batches[-1:],
        template.declaration,
        template.carried,
        Phases(),
        template.constants,
    )
    values = problem.quantities(truth[None]).values
    return {variable.name: values[variable.name] for variable in graph.carried}


def _simulated(
    template: Data, graph: ModelGraph, values: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[Batch, dict[str, np.ndarray]]:
    """Return a batch with the template's inputs and outcomes drawn at the true values.

    With it the true values [sample, ...] of the state that it ends in, drawn together with the outcomes.
    """
    declaration, outcomes = template.declaration, list(graph.model.observed_RVs)
    states = {start: graph.model[end] for start, end in declaration.carry.items()}
    both = predictive_draws(graph.model, values, rng=rng, variables=[*outcomes, *states.values()])
    drawn = {rv.name: both[rv.name] for rv in outcomes}
    ends = {start: both[end.name] for start, end in states.items()}
    frame, columns = template.newest.frame(), list(declaration.observed)
    refused = partial(ModelRefused, f"The outcomes of {declaration.name} cannot be simulated")
    if set(drawn) != set(columns) and not len(drawn) == len(columns) == 1:
        raise refused(
            expected="observed variables named like the declaration's observed columns, or one of each",
            found=f"variables {', '.join(drawn)}; columns {', '.join(columns) or 'none declared'}",
            todo="name them alike",
        )
    for name, value in drawn.items():
        column = name if name in columns else columns[0]
        if np.shape(value[0]) != (len(frame),):
            raise refused(
                expected="one outcome for each row",
                found=f"{np.shape(value[0])} outcomes of {name} for {len(frame)} rows",
                todo="observe one value per row",
            )
        frame[column] = value[0].astype(frame[column].dtype)
    return batch_from_frame(frame, declaration, "simulated"), ends
