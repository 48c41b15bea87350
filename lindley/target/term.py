"""One batch's term of a log density, as a function of its model's coordinates and local variables.

Several batches can then be fitted together without a graph that holds them all: the same compiled
functions are called batch by batch; where a batch hands state to the next one, the state's cotangent comes
back the same way (see `lindley.target.pool`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytensor.tensor as pt
from pytensor.graph.basic import Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors

from lindley.errors import CoordinatesMismatch
from lindley.model.graph import FreeVariable, ModelGraph, slices
from lindley.model.refusals import deriving, gradient
from lindley.model.tensors import plain
from lindley.target.density import (
    described,
    graph_digest,
    lift,
    quantities_of,
    state_positions,
    total,
    values_of,
)
from lindley.target.engine import Graph
from lindley.target.quantities import Quantities
from lindley.target.reuse import reused


@dataclass(frozen=True, kw_only=True)
class Term(Graph):
    """Symbolic term of one batch.

    Its free inputs are the coordinates u [coordinate] of the carried variables; the local variables [local];
    `own` [coordinate] of 0 and 1, where the model's own prior counts because the belief does not have the
    coordinate; and `pull` [state coordinate], the cotangent of the state that is carried forward.

    Its functions are ``term``, the log density's value and the gradients of value + pull . state by u and the
    local variables; ``state``, the state that is carried forward; ``quantities``, and ``essential``, the same
    without deterministics.

    Parameters
    ----------
    state_at
        Positions of the coordinates, in the model's order, that take the state that is carried forward.
    names
        Quantities of the names that those of the function have.
    """

    state_at: np.ndarray
    names: Quantities[Variable]


def term(graph: ModelGraph) -> Term:
    """Return the term of a batch's model; a graph is derived only for a model that is new to the process."""
    free = graph.compilable
    with deriving(graph.declaration):
        found = reused(free, "term", lambda: _derived(free))
    sizes = (graph.coordinates.size, graph.size - graph.coordinates.size, graph.coordinates.size)
    return replace(found, example=tuple(np.zeros(size) for size in (*sizes, len(found.state_at))))


def _derived(graph: ModelGraph) -> Term:
    """Derive the term of a batch's model."""
    size, local_size = graph.coordinates.size, graph.size - graph.coordinates.size
    grows = any(variable.lengths for variable in graph.local)
    u, local = pt.vector("u", shape=(size,)), pt.vector("local", shape=(None if grows else local_size,))
    own = pt.vector("own", shape=(size,))
    model = graph.model
    prior = _prior_terms(graph)
    potentials = model.logp(vars=graph.prior_potentials(), sum=False)
    batch = model.logp(vars=graph.batch_variables(), sum=False)
    likelihood = model.logp(vars=graph.likelihood_variables(), sum=False)
    quantities, state = quantities_of(graph, u, total(likelihood))
    replaced = graph_replace(
        [*prior, total(potentials), total(batch), state, *quantities.flat()],
        values_of(graph, u, local),
        strict=False,
    )
    own_terms, (potential_term, batch_term, state, *flat) = replaced[: len(prior)], replaced[len(prior) :]
    value = batch_term + _own_prior(graph, own, own_terms, potential_term)
    state_at = state_positions(graph)
    pull = pt.vector("pull", shape=(len(state_at),))
    objective = value + pt.sum(pull * state)
    gradients = gradient(graph.declaration, objective, [u, local])
    outputs, data = lift([value, *gradients, state, *flat], graph)
    free = (u, local, own, pull)
    return Term(
        free=free,
        example=(),  # of the batch: see `term`
        functions={"term": outputs[:3], "state": [outputs[3]], **described(quantities, outputs[4:])},
        digest=graph_digest(outputs),
        state_at=state_at,
        names=quantities,
        **data,
    )


def _own_prior(graph: ModelGraph, own: Variable, terms: list[Variable], potentials: Variable) -> Variable:
    """Return the model's own prior of the coordinates that `own` marks.

    Of a variable whose density has one term for each element the marked elements count. Any other variable
    counts where all of it is marked.
    """
    parts = [pt.switch(pt.all(own > 0), potentials, 0.0)]
    for (variable, place), log_prior in zip(slices(graph.carried), terms, strict=True):
        mask = own[place]
        if elementwise(variable, log_prior):
            shaped = mask.reshape(variable.block.value_shape)
            parts.append(pt.sum(pt.switch(shaped > 0, log_prior, 0.0)))
        else:
            parts.append(pt.switch(pt.all(mask > 0), pt.sum(log_prior), 0.0))
    return total(parts)


def _prior_terms(graph: ModelGraph) -> list[Variable]:
    """Return the carried variables' log priors."""
    terms = graph.model.logp(vars=[variable.rv for variable in graph.carried], sum=False)
    return [plain(found) for found in terms]


def elementwise(variable: FreeVariable, log_prior: Variable) -> bool:
    """Whether a variable's log prior has one term for each of its elements."""
    return bool(log_prior.type.ndim == len(variable.block.value_shape))


def require_divisible(graph: ModelGraph, own: np.ndarray) -> None:
    """Refuse new labels of a variable whose elements have a joint prior, a potential's included.

    Parameters
    ----------
    graph
        The batch's model.
    own
        Array [coordinate] of bool: coordinates that the belief does not have.

    Raises
    ------
    CoordinatesMismatch
        If only a part of such a variable is new.
    """
    terms = _prior_terms(graph)
    for (variable, place), log_prior in zip(slices(graph.carried), terms, strict=True):
        mask = own[place]
        if mask.any() and not mask.all() and not elementwise(variable, log_prior):
            new = [name for name, is_new in zip(variable.block.names(), mask, strict=True) if is_new]
            raise CoordinatesMismatch(
                f"The carried variable {variable.name!r} has new labels and a joint prior",
                expected="a prior of its own for each element, given the hyperparameters",
                found=f"new {', '.join(new[:5])}",
                todo="give the elements independent priors, or give the model the full list of labels",
            )
        if mask.any() and not own.all():
            for potential in graph.prior_potentials():
                if variable.rv in ancestors([potential]):
                    # Its term for the new elements cannot be separated from what is counted already.
                    raise CoordinatesMismatch(
                        f"The carried variable {variable.name!r} has new labels, and the prior potential "
                        f"{potential.name!r} is of them",
                        expected="a prior potential of variables whose labels stay",
                        found="labels that the belief does not have",
                        todo="give the model the full list of labels in every batch",
                    )
