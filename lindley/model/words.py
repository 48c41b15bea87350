"""A model's distributions in words, for people. A distribution without a description has none here either."""

from __future__ import annotations

from typing import Any

from pymc.printing import str_for_dist
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from lindley.model.graph import ModelGraph
from lindley.model.tensors import named_dims

#: What PyMC calls a distribution that it has no name for.
_UNKNOWN = "Unknown"


def likelihood_text(model: Any) -> dict[str, str]:
    """Return each observed variable's distribution in words, e.g. ``Normal(f(beta), sigma)``."""
    return _texts(model.observed_RVs)


def genesis_text(graph: ModelGraph) -> dict[str, dict[str, str]]:
    """Return the model's own priors in words: ``genesis_prior`` and ``genesis_hyperprior`` by variable.

    A hyperprior is the prior of a variable that another free variable's prior depends on.
    """
    rvs = [variable.rv for variable in graph.free]
    parents = {parent for rv in rvs for parent in ancestors([rv]) if parent is not rv}
    return {
        "genesis_prior": _texts([rv for rv in rvs if rv not in parents]),
        "genesis_hyperprior": _texts([rv for rv in rvs if rv in parents]),
    }


def _texts(rvs: list[Variable]) -> dict[str, str]:
    """Return words by name; variables that there are no words for are left out."""
    return {rv.name: text for rv in rvs if (text := words(rv))}


def words(rv: Variable) -> str:
    """Return a variable's distribution in words, without its name; empty where it has none.

    A model transform (`pm.observe`, imputation, marginalisation) makes variables without the method that
    PyMC attaches to others, of operations of any kind: the words come from the operation.
    """
    try:
        node = rv.owner
        if named_dims(rv) is not None and node.inputs[0].owner is not None:  # dims around a distribution
            node = node.inputs[0].owner
        text = str_for_dist(node.default_output() if node is not rv.owner else rv)
        found = text.partition(" ~ ")[2] or text
        return found.replace(_UNKNOWN, type(node.op).__name__, 1) if found.startswith(_UNKNOWN) else found
    except Exception:  # an operation may describe itself in any way, or in none
        return ""
