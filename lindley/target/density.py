"""The target density of an update as a PyTensor graph, with prior and batch as inputs of one function.

The sampler moves in x = (z, l): z are the whitened coordinates of the carried variables (the plain
coordinates at the first link, where the model's own priors hold) and l the local variables. The target
of an update is Normal(z; 0, I) p(l | u(z)) L(u(z), l): the matched prior times the batch's likelihood, as a
density of z.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

from lindley.model.graph import ModelGraph, slices
from lindley.model.refusals import deriving, gradient
from lindley.model.tensors import alike, placeholder, plain
from lindley.prior.triangular import ARRAYS, MARGINS, joint_normal
from lindley.target.engine import Function, Graph
from lindley.target.quantities import Quantities, kept_deterministics
from lindley.target.reuse import data_value, is_leaf, reused


@dataclass(frozen=True, kw_only=True)
class Target(Graph):
    """Symbolic target of one link.

    Its free inputs are x [x], whitened carried coordinates and then local ones; the prior's arrays in the
    order of `lindley.prior.triangular.ARRAYS` (none at the first link); and the weight of a robust mixture
    where there is one. Its functions are ``log_density`` (the target and its gradient by x), ``quantities``,
    and ``essential``, the same without deterministics.

    Parameters
    ----------
    names
        Quantities of the names that those of the function have.
    """

    names: Quantities[Variable]

    def try_out(self, name: str, function: Function) -> None:
        """Run a function once, as machine code where that can be: what is called is compiled, and no more."""
        point, *arrays = (*self.example, *self.data_values)
        if not function.is_native:
            function(point, *arrays)
        elif name == "log_density":
            function.density(arrays).at(point[None])
        else:
            function.table(arrays).at(point[None])


def target(graph: ModelGraph, *, genesis: bool, robust: bool = False) -> Target:
    """Return the target of a link; a graph is derived only for a model that is new to the process.

    Parameters
    ----------
    graph
        The model taken apart.
    genesis
        Whether the model's own priors hold (the first link) or a matched prior.
    robust
        Whether the prior is a mixture of the matched one and the model's own, whose weight is then the
        last of the prior's inputs.
    """
    # A density by itself is made for its own length of x; batches with local variables are terms.
    graph, kind = graph.compilable, f"target {genesis} {robust} {graph.size}"
    with deriving(graph.declaration):
        return reused(graph, kind, lambda: _derived(graph, genesis=genesis, robust=robust))


def _derived(graph: ModelGraph, *, genesis: bool, robust: bool) -> Target:
    """Derive the target of a link."""
    x = pt.vector("x", shape=(graph.size,))
    size = graph.coordinates.size
    prior = {} if genesis else map_inputs(size)
    u = x[:size] if genesis else unwhiten(x[:size], prior)
    values = values_of(graph, u, x[size:])
    model = graph.model
    batch_terms = model.logp(vars=graph.batch_variables(), sum=False)
    likelihood = model.logp(vars=graph.likelihood_variables(), sum=False)
    own = genesis or robust
    prior_terms = model.logp(vars=graph.prior_variables(), sum=False) if own else []
    quantities, _ = quantities_of(graph, u, total(likelihood))
    prior_term, batch_term, *flat = graph_replace(
        [total(prior_terms), total(batch_terms), *quantities.flat()], values, strict=False
    )
    if not genesis:
        matched_term = -0.5 * pt.sum(x[:size] ** 2) - 0.5 * size * np.log(2 * np.pi)
        prior_term = _mixed(x[:size], prior, matched_term, prior_term) if robust else matched_term
    log_density = prior_term + batch_term
    slopes = gradient(graph.declaration, log_density, x)
    outputs, data = lift([log_density, slopes, *flat], graph)
    arrays = () if genesis else joint_normal(np.zeros(size), np.eye(size)).arrays()
    return Target(
        free=(x, *prior.values()),
        example=(np.zeros(graph.size), *arrays, *([np.array(0.5)] if robust and not genesis else [])),
        functions={"log_density": outputs[:2], **described(quantities, outputs[2:])},
        digest=graph_digest(outputs),
        names=quantities,
        **data,
    )


def graph_digest(outputs: list[Variable]) -> str:
    """Return the sha256 of the printed graph, before compilation, which may annotate operations."""
    text = pytensor.dprint(outputs, file="str", id_type="CHAR", print_type=True, print_op_info=True)
    return hashlib.sha256(text.encode()).hexdigest()


def map_inputs(size: int) -> dict[str, Variable]:
    """Return symbolic inputs by name, in the order of `lindley.prior.triangular.ARRAYS`."""
    vectors = {name: pt.vector(name, shape=(size,)) for name in ARRAYS}
    return vectors | {
        "order": pt.lvector("order"),
        "linear": pt.matrix("linear", shape=(size, size)),
        # Of length 0 for a joint normal, so that the same function serves every family.
        "quadratic": pt.tensor3("quadratic", shape=(size, None, None)),
        "widen": pt.matrix("widen", shape=(size, None)),
        "margins": pt.matrix("margins", shape=(len(MARGINS), size)),
    }


def unwhiten(z: Variable, map_: dict[str, Variable]) -> Variable:
    """Return u(z) as a graph: what `lindley.prior.triangular.TriangularMap.forward` computes."""
    u = _before_margins(z, map_)
    center, spread, skew, tail = (map_["margins"][i] for i in range(len(MARGINS)))
    return center + spread * pt.sinh((pt.arcsinh(u) + skew) / tail)


def _before_margins(z: Variable, map_: dict[str, Variable]) -> Variable:
    """Return the coordinates that a map gives before their margins are warped."""
    # Sums of products instead of BLAS calls: exact for any size, and no BLAS need be linked.
    leading = z[: map_["widen"].shape[1]]
    middle = map_["loc"] + pt.sum(map_["linear"] * z[None, :], axis=1)
    middle = middle + pt.sum(map_["quadratic"] * leading[None, :, None] * leading[None, None, :], axis=(1, 2))
    width = pt.exp(map_["log_width"] + pt.sum(map_["widen"] * leading[None, :], axis=1))
    v = middle + width * pt.sinh((pt.arcsinh(z) + map_["skew"]) / map_["tail"])
    return pt.set_subtensor(pt.zeros_like(v)[map_["order"]], v)


def _mixed(z: Variable, map_: dict[str, Variable], matched: Variable, own: Variable) -> Variable:
    """Return the log density of z under a mixture of the matched prior and the model's own.

    The model's own prior is a density of coordinates: the log slope of the whitening makes it one of z.
    """
    weight = map_["robust"] = pt.scalar("robust")
    own = own + _log_slope(z, map_)
    return pt.logaddexp(pt.log1p(-weight) + matched, pt.log(weight) + own)


def _log_slope(z: Variable, map_: dict[str, Variable]) -> Variable:
    """Return log|det du/dz| of a map."""
    leading = z[: map_["widen"].shape[1]]
    inner = (pt.arcsinh(z) + map_["skew"]) / map_["tail"]
    log_width = map_["log_width"] + pt.sum(map_["widen"] * leading[None, :], axis=1)
    steps = log_width + pt.log(pt.cosh(inner) / map_["tail"]) - 0.5 * pt.log1p(z**2)
    u = _before_margins(z, map_)
    _, spread, skew, tail = (map_["margins"][i] for i in range(len(MARGINS)))
    margins = pt.log(spread * pt.cosh((pt.arcsinh(u) + skew) / tail) / tail) - 0.5 * pt.log1p(u**2)
    return pt.sum(steps) + pt.sum(margins)


def values_of(graph: ModelGraph, u: Variable, local: Variable) -> dict[Variable, Variable]:
    """Map each value variable to its piece of the vectors."""
    values = {}
    for vector, variables in ((u, graph.carried), (local, graph.local)):
        stop: Any = 0
        for variable in variables:
            shape = variable.lengths or variable.block.value_shape
            start, stop = stop, stop + math.prod(shape)
            piece = vector[start:stop].reshape(shape)
            values[variable.value] = alike(piece.astype(variable.value.dtype), variable.value)
    return values


def quantities_of(
    graph: ModelGraph, u: Variable, log_likelihood: Variable
) -> tuple[Quantities[Variable], Variable]:
    """Return what is computed for every draw, and the state at the batch's end.

    Parameters
    ----------
    graph
        The batch's model.
    u
        Coordinates [coordinate] of its carried variables.
    log_likelihood
        The batch's.

    Returns
    -------
    tuple
        The quantities, in terms of the model's value variables and of `u`, and the state: a vector
        [state coordinate] of the coordinates that carried quantities have (see `state_positions`).
    """
    model, carry = graph.model, graph.declaration.carry
    sources = [
        (variable, model[carry[variable.name]]) for variable in graph.carried if variable.name in carry
    ]
    ends = [graph.coordinates_of(variable.rv, source) for variable, source in sources]
    free = [variable.rv for variable in graph.free]
    kept = kept_deterministics(graph)
    graphs = [plain(v) for v in model.replace_rvs_by_values([*free, *kept, *ends])]
    named = {v.name: g for v, g in zip([*graph.free, *kept], graphs, strict=False)}
    state = {v.name: pt.flatten(g) for (v, _), g in zip(sources, graphs[len(named) :], strict=True)}
    pieces = []
    for variable, place in slices(graph.carried):
        end = state.get(variable.name)
        pieces.append(u[place] if end is None else end.reshape((variable.block.size,)))
    quantities = Quantities(
        u=u,
        carried=pt.concatenate(pieces) if state else u,
        values={variable.name: named[variable.name] for variable in graph.free},
        deterministics={d.name: named[d.name] for d in kept},
        log_likelihood=log_likelihood,
    )
    return quantities, pt.concatenate([pt.zeros(0), *state.values()])


def state_positions(graph: ModelGraph) -> np.ndarray:
    """Return the positions [state coordinate] of the coordinates that take the state at the batch's end."""
    owners = [variable.name for variable in graph.carried for _ in range(variable.block.size)]
    return np.flatnonzero([name in graph.declaration.carry for name in owners])


def described(names: Quantities[Variable], outputs: list[Variable]) -> dict[str, list[Variable]]:
    """Return the functions of what is computed for every draw: of all of it, and without deterministics."""
    return {"quantities": outputs, "essential": names.filled(outputs).essential().flat()}


def total(terms: list[Variable]) -> Variable:
    """Sum log probability terms of any shape."""
    return pt.add(*[pt.sum(plain(term)) for term in terms], pt.constant(0.0))


def lift(outputs: list[Variable], graph: ModelGraph) -> tuple[list[Variable], dict[str, Any]]:
    """Turn the model's data and the arrays inlined in it into inputs.

    One compiled function then serves every batch whose graph is otherwise the same.

    Returns
    -------
    tuple
        The outputs in terms of these inputs, and the fields of `Graph` that describe the inputs.
    """
    observed = set(graph.model.rvs_to_values.values())
    replacements: dict[Variable, Variable] = {}
    inputs: list[Variable] = []
    values: list[np.ndarray] = []
    inlined = 0
    for variable in ancestors(outputs):
        if isinstance(variable.type, RandomType) or not is_leaf(variable, observed):
            continue
        inlined += isinstance(variable, Constant)
        made, replacements[variable] = placeholder(variable, f"data_{len(values)}")
        inputs.append(made)
        values.append(data_value(variable))
    if replacements:
        outputs = graph_replace(outputs, replacements, strict=False)
    return outputs, {
        "data": tuple(inputs),
        "data_values": tuple(values),
        "sources": tuple(replacements),
        "inlined": inlined,
    }
