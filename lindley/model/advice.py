"""Advice to a model's author: how updates could be cheaper."""

from __future__ import annotations

from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors

from lindley.model.free_lengths import GROWING
from lindley.model.graph import ModelGraph, is_data


def data_held_as_constants(graph: ModelGraph) -> list[str]:
    """Name the arrays that a model holds as constants, by their use.

    The names are such as ``float64 200 x 3 in y`` and ``the observed values of y``.
    """
    model = graph.model
    values: dict[Variable, str] = {model.rvs_to_values[rv]: rv.name for rv in model.observed_RVs}
    named = [*model.deterministics, *model.free_RVs, *model.observed_RVs, *model.potentials]
    seen = set(values)
    found = [
        f"the observed values of {name}" for value, name in values.items() if isinstance(value, Constant)
    ]
    for variable in named:
        others = [other for other in named if other is not variable]
        for leaf in ancestors([variable], blockers=others):
            if isinstance(leaf, Constant) and leaf not in seen and is_data(leaf, set()):
                seen.add(leaf)
                shape = " x ".join(map(str, leaf.data.shape))
                found.append(f"{leaf.type.dtype} {shape} in {variable.name}")
    return found


def advice(graph: ModelGraph, *, inlined: int, compiled_before: bool, seconds: float) -> tuple[str, ...]:
    """Return sentences about the cost of compilation and how the next batches could avoid it.

    Parameters
    ----------
    graph
        The newest batch's model.
    inlined
        Number of arrays that the model holds as constants and the compiled target takes as data.
    compiled_before
        Whether this process had the compiled target already.
    seconds
        Time that compilation took.
    """
    if not inlined or compiled_before or graph.sized == GROWING:
        return ()
    arrays = data_held_as_constants(graph)
    what = ", ".join(arrays[:5]) + (f" and {len(arrays) - 5} more" if len(arrays) > 5 else "")
    return (
        f"The model holds data as constants ({what or f'{inlined} arrays'}), and {graph.sized}, so that a "
        f"batch of another length needs a new compilation, which took {seconds:.1f} s here. With pm.Data one "
        f"compilation serves all batches",
    )
