"""Draws from a model's own priors, and which of them there cannot be draws from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pymc as pm
from pymc.distributions.multivariate import ICARRV
from pytensor.graph.basic import Variable
from pytensor.graph.op import HasInnerGraph
from pytensor.graph.traversal import ancestors, applys_between

from lindley.errors import reason
from lindley.model.graph import ModelGraph
from lindley.model.tensors import plain

#: Rounds of draws from a prior that a transform confines, at most.
_PRIOR_ROUNDS = 100
#: Operations whose density does not integrate to one.
_IMPROPER = (type(pm.Flat.rv_op), type(pm.HalfFlat.rv_op), ICARRV)
#: Modules of operations that have a sampler of their own, unless they are improper.
_LIBRARIES = ("pymc.", "pytensor.")


def draw(variables: Sequence[Variable], *, size: int, seed: int) -> list[np.ndarray]:
    """Draw model variables jointly from their priors; returns arrays [draw, ...]."""
    wanted = [plain(variable) for variable in variables]
    return list(pm.draw(wanted, draws=size, random_seed=seed, mode="FAST_COMPILE"))


def prior_coordinates(graph: ModelGraph, *, size: int, seed: int) -> np.ndarray | None:
    """Draw carried coordinates, then local ones, from the model's own priors.

    A transform may confine a prior further, as `ordered` does a normal one: draws outside are replaced.

    Returns
    -------
    numpy.ndarray or None
        Array [draw, x]; None if a prior is improper or cannot be drawn from, or nearly all of it is outside.
    """
    if undrawable(graph):
        return None
    found = np.empty((0, graph.size))
    for again in range(_PRIOR_ROUNDS):
        fresh = int(np.random.default_rng([seed, again]).integers(2**31)) if again else seed
        try:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = draw(graph.coordinates_of_values(), size=size, seed=fresh)
        except Exception:  # a prior's own code may fail in any way; see `why_not_drawn`
            return None
        drawn = np.concatenate([np.reshape(value, (size, -1)) for value in values], axis=1)
        found = np.concatenate([found, drawn[np.isfinite(drawn).all(axis=1)]])
        if len(found) >= size:
            return found[:size]
    return None


def improper(rv: Variable) -> bool:
    """Whether a free variable has no proper prior (`pm.Flat`, `pm.HalfFlat`, `pm.ICAR`)."""
    return any(isinstance(node.op, _IMPROPER) for node in _own_nodes(rv))


def undrawable(graph: ModelGraph) -> dict[str, str]:
    """Return why free variables cannot be drawn from their priors, by name; empty where all can.

    Distributions of PyMC can, but for improper ones. A custom distribution is tried.
    """
    return {rv.name: why for rv in graph.model.free_RVs if (why := _why_undrawable(rv))}


def why_not_drawn(graph: ModelGraph) -> dict[str, str]:
    """Return why there are no prior draws: by free variable, or under the empty name for all together."""
    found = undrawable(graph)
    if not found:
        try:
            draw(graph.coordinates_of_values(), size=1, seed=0)
        except Exception as error:  # a prior's own code may fail in any way
            found = {"": reason(error)}
    return found or {"": "nearly all of the prior is outside its support"}


def _why_undrawable(rv: Variable) -> str:
    """Return why a variable cannot be drawn; empty where it can."""
    if improper(rv):
        return "its prior is improper"
    if all(_from_library(type(node.op)) for node in _own_nodes(rv)):
        return ""
    try:
        draw([rv], size=1, seed=0)
    except NotImplementedError:
        return "its distribution has no random function"
    except Exception as error:  # a custom distribution's own code may fail in any way
        return reason(error)
    return ""


def _from_library(kind: type) -> bool:
    """Whether an operation's class is one of PyMC's or PyTensor's own."""
    return kind.__module__.startswith(_LIBRARIES)


def _own_nodes(rv: Variable) -> list[Any]:
    """Return the nodes that make a variable from named variables and data, its inner graph's included."""
    named = [v for v in ancestors([rv]) if v is not rv and v.name is not None and v.owner is not None]
    nodes = list(applys_between(named, [rv]))
    for node in list(nodes):
        if isinstance(node.op, HasInnerGraph):
            nodes += list(node.op.fgraph.apply_nodes)
    return nodes
