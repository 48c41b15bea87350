"""Advice to a model's author: how updates could be cheaper."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.traversal import ancestors

from lindley.model.free_lengths import GROWING
from lindley.model.graph import ModelGraph, is_data

if TYPE_CHECKING:
    import pandas as pd


def data_held_as_constants(graph: ModelGraph, frame: pd.DataFrame) -> list[str]:
    """Name the arrays that a model holds as constants, by their use.

    The names are such as ``float64 200 x 3 in y`` and ``the observed values of y``; where the values are
    those of a column of the batch, its name and the line of the model file that uses it come first.

    Parameters
    ----------
    graph
        The newest batch's model.
    frame
        The batch's rows.
    """
    model, columns = graph.model, {str(name): frame[name].to_numpy() for name in frame.columns}
    values: dict[Variable, str] = {model.rvs_to_values[rv]: rv.name for rv in model.observed_RVs}
    named = [*model.deterministics, *model.free_RVs, *model.observed_RVs, *model.potentials]
    seen = set(values)
    source = "" if graph.declaration.in_memory else graph.declaration.source_text
    found = [
        _column(value.data, columns, source) + f"the observed values of {name}"
        for value, name in values.items()
        if isinstance(value, Constant)
    ]
    for variable in named:
        others = [other for other in named if other is not variable]
        for leaf in ancestors([variable], blockers=others):
            if isinstance(leaf, Constant) and leaf not in seen and is_data(leaf, set()):
                seen.add(leaf)
                shape = " x ".join(map(str, leaf.data.shape))
                column = _column(leaf.data, columns, source)
                found.append(f"{column}{leaf.type.dtype} {shape} in {variable.name}")
    return found


def _column(values: np.ndarray, columns: dict[str, np.ndarray], source: str) -> str:
    """Return the column that holds these values, and its line in the model file; empty where it is not clear.

    Of several columns with the same values it is the one that the code takes.
    """
    same = [
        name for name, column in columns.items() if values.shape == column.shape and np.all(values == column)
    ]
    uses = [(name, i) for i, line in enumerate(source.splitlines(), 1) for name in same if _names(line, name)]
    if len({name for name, _ in uses}) == 1:
        return f"column {uses[0][0]}, line {uses[0][1]}: "
    return f"column {same[0]}: " if len(same) == 1 else ""


def _names(line: str, column: str) -> bool:
    """Whether a line of code takes a column of the batch."""
    name = re.escape(column)
    return re.search(rf"""\[["']{name}["']\]|\bbatch\.{name}\b""", line) is not None


def advice(
    graph: ModelGraph, frame: pd.DataFrame, *, inlined: int, compiled_before: bool, seconds: float
) -> tuple[str, ...]:
    """Return sentences about the cost of compilation and how the next batches could avoid it.

    Parameters
    ----------
    graph, frame
        The newest batch's model, and its rows.
    inlined
        Number of arrays that the model holds as constants and the compiled target takes as data.
    compiled_before
        Whether this process had the compiled target already.
    seconds
        Time that compilation took.
    """
    if not inlined or compiled_before or graph.sized == GROWING:
        return ()
    arrays = data_held_as_constants(graph, frame)
    what = "; ".join(arrays[:5]) + (f" and {len(arrays) - 5} more" if len(arrays) > 5 else "")
    return (
        f"The model holds data as constants ({what or f'{inlined} arrays'}), and {graph.sized}, so that a "
        f"batch of another length needs a new compilation, which took {seconds:.1f} s here. With pm.Data one "
        f"compilation serves all batches",
    )
