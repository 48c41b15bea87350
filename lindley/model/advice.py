"""What a model's author could do to make updates cheaper."""

from __future__ import annotations

from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors

from lindley.model.graph import ModelGraph, is_data


def data_held_as_constants(graph: ModelGraph) -> list[str]:
    """Name the arrays that a model holds as constants, by what they are used for.

    Parameters
    ----------
    graph
        The model taken apart.

    Returns
    -------
    list of str
        Such as ``float64 200 x 3 in y`` and ``the observed values of y``.
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
    """Return sentences about what compilation cost and how the next batches could do without.

    Parameters
    ----------
    graph
        The newest batch's model.
    inlined
        Arrays that the compiled target took for data although the model holds them as constants.
    compiled_before
        Whether this process had the compiled target already.
    seconds
        What compiling took.
    """
    if not inlined or compiled_before:
        return ()
    arrays = data_held_as_constants(graph)
    what = ", ".join(arrays[:5]) + (f" and {len(arrays) - 5} more" if len(arrays) > 5 else "")
    return (
        f"The model holds data as constants ({what or f'{inlined} arrays'}), so that a batch of another "
        f"length is compiled anew, which took {seconds:.1f} s here. Wrapped in pm.Data, one compilation "
        f"serves all",
    )
