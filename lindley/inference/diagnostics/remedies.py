"""What a user can do about a fit that the gate refuses, by the diagnostic that failed and its coordinate."""

from __future__ import annotations

import numpy as np
from pytensor.graph.basic import Variable
from pytensor.graph.traversal import ancestors

from lindley.inference.diagnostics.convergence import Convergence
from lindley.model.graph import FreeVariable, ModelGraph

#: Distributions whose last parameter is their scale: other parameters make no funnel.
_SCALE_LAST = ("NormalRV", "StudentTRV", "CauchyRV", "LaplaceRV", "LogisticRV", "MvNormalRV")
#: R-hat from which the chains are in different places rather than slow: between-chain variance is then at
#: least a fifth of the whole.
_APART = 1.1


def with_remedies(
    reasons: tuple[str, ...], graph: ModelGraph, names: list[str], result: Convergence
) -> tuple[str, ...]:
    """Add to each reason of the gate what a user can do about it.

    Parameters
    ----------
    reasons
        As `lindley.inference.diagnostics.gate.refusals` gives them.
    graph
        Model of the newest batch.
    names, result
        Names of the coordinates, and their convergence.
    """
    return tuple(f"{reason}: {_remedy(reason, graph, names, result)}" for reason in reasons)


def _remedy(reason: str, graph: ModelGraph, names: list[str], result: Convergence) -> str:
    """Return what to do about one reason."""
    funnels = centred(graph)
    if "diverged" in reason:
        return _non_centred(funnels) or (
            "look where they are (sample_stats of the trace): reparametrise a funnel, and check the batch "
            "for values that the model hardly allows"
        )
    # The smallest is the worst, as in `refusals`; what cannot be computed is worse.
    measured = {"R-hat": -result.r_hat, "bulk": result.ess_bulk, "tail": result.ess_tail}
    values = measured[reason.partition(" ")[0]]
    worst = int(np.argmin(np.where(np.isfinite(values), values, -np.inf)))
    variable = names[worst].partition("[")[0]
    own = [pair for pair in funnels if variable in pair]
    if own:
        return _non_centred(own)
    if reason.startswith("R-hat") and not result.r_hat[worst] < _APART:
        return (
            f"the chains found different values of {variable}: order what can swap its labels, or give "
            f"{variable} a prior that excludes the other values"
        )
    return f"more rows in the batch, or a tighter prior of {variable}"


def _non_centred(pairs: list[tuple[str, str]]) -> str:
    """Return the advice to write centred variables as multiples of their scale; empty without one."""
    if not pairs:
        return ""
    scale = pairs[0][1]
    effects = " and ".join(effect for effect, of in pairs if of == scale)
    return (
        f"the prior of {effects} is scaled by {scale}: write {effects} as {scale} times a standard normal "
        "variable (non-centred), or give more rows in the batch"
    )


def centred(graph: ModelGraph) -> list[tuple[str, str]]:
    """Return the free variables whose prior has another free variable as its scale, each with that one.

    Such a pair is a funnel where the data say little about it (Betancourt & Girolami 2015, Hamiltonian Monte
    Carlo for hierarchical models).
    """
    free = {variable.rv: variable for variable in graph.free}
    found = []
    for variable in graph.free:
        if variable.block.transform != "identity":
            continue
        others = [rv for rv in free if rv is not variable.rv]
        for source in _scale_of(variable.rv):
            reached = ancestors([source], blockers=others)
            found += [(variable.name, free[rv].name) for rv in reached if _scales(free.get(rv), variable)]
    return list(dict.fromkeys(found))


def _scale_of(rv: Variable) -> list[Variable]:
    """Return the parameters that may scale a variable: the last one where that is known to be the scale."""
    op = rv.owner.op
    inputs = list(rv.owner.inputs)
    return inputs[-1:] if type(op).__name__ in _SCALE_LAST else inputs


def _scales(other: FreeVariable | None, variable: FreeVariable) -> bool:
    """Whether a variable that the prior of another depends on is positive, as a scale is."""
    return other is not None and other.name != variable.name and other.block.transform.startswith("log")
