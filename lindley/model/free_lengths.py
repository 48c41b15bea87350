"""Models that hold a batch's rows as constants, as models whose arrays may have any length.

``observed=batch["y"].to_numpy()`` puts an array of fixed length into the graph, and a batch of another length
would be another graph, to be compiled anew. Where building the model from more rows makes an array longer,
its axis follows the rows: the array becomes data of any length there, as with `pm.Data`. An integer that
grows with such an axis, as in the shape of a distribution, becomes its length. Everything else of the model,
arrays of fixed length included, stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
from pymc.distributions.distribution import SymbolicRandomVariable
from pymc.model.fgraph import fgraph_from_model, model_from_fgraph
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.traversal import ancestors, toposort

from lindley.cache import Recent
from lindley.model.graph import FreeVariable, ModelGraph


@dataclass(frozen=True)
class Following:
    """How a constant of a model follows the rows.

    Parameters
    ----------
    dtype
        Its type.
    axes
        Whether each of its axes does.
    lengths
        Elements that are lengths: the place of each, and the place of the constant and its axis.
    """

    dtype: str
    axes: tuple[bool, ...]
    lengths: tuple[tuple[int, int, int], ...] = ()

    @property
    def kind(self) -> tuple[str, int]:
        """Type and number of axes: those of the same constant in the model of any rows."""
        return self.dtype, len(self.axes)


#: How the constants of models follow the rows, in the order of their graph, or why that is unknown; by the
#: model's code, or by its build function.
_known: Recent[tuple[Following, ...] | str] = Recent(256, lambda _: 1)


#: Why no compilation can serve all lengths, however the model holds its data.
GROWING = "free variables grow with the rows"


class Unfreed(Exception):
    """The arrays of a model cannot be freed; the text is the reason, and ends a sentence."""


def freed(graph: ModelGraph, frame: pd.DataFrame, context: Any, constants: Any) -> ModelGraph:
    """Return a model that also holds itself with free lengths, or why it cannot be had.

    The model is built once more, from its rows twice over, for each build function.

    Parameters
    ----------
    graph
        The model taken apart.
    frame, context, constants
        What it was built from; see `lindley.model.graph.build`.
    """
    declaration = graph.declaration

    def found() -> tuple[Following, ...] | str:
        try:
            twice = pd.concat([frame, frame], ignore_index=True)
            larger = declaration.build(twice, **declaration.extras(twice, context, constants))
        except Exception as error:  # a build function may refuse such rows
            return f"it cannot be built from its rows twice over ({type(error).__name__})"
        try:
            how = following(graph.model, larger)
            if _any_follows(how):
                _require_same_density(graph, with_free_lengths(graph, how))
        except Unfreed as error:
            return str(error)
        return how

    how = _known.get(declaration.build if declaration.in_memory else declaration.model_digest, found)
    if isinstance(how, str):
        return replace(graph, sized=how)
    if not _any_follows(how):
        return graph
    try:
        return replace(graph, unsized=with_free_lengths(graph, how))
    except Unfreed as error:
        return replace(graph, sized=str(error))


def following(model: Any, larger: Any) -> tuple[Following, ...]:
    """Return how a model's constants follow the rows.

    Parameters
    ----------
    model, larger
        The model of some rows, and of more.

    Raises
    ------
    Unfreed
        If the two are different computations.
    """
    ours, theirs = (_constants(_copied(each).outputs) for each in (model, larger))
    if [_kind(one) for one in ours] != [_kind(other) for other in theirs]:
        raise Unfreed("its graph depends on the number of rows")
    if [rv.type.shape for rv in model.free_RVs] != [rv.type.shape for rv in larger.free_RVs]:
        raise Unfreed(GROWING)
    pairs = list(zip(ours, theirs, strict=True))
    # Where each pair of lengths is found: the length of an axis for some rows, and for more.
    lengths = {
        (m, n): (place, axis)
        for place, (one, other) in reversed(list(enumerate(pairs)))
        for axis, (m, n) in enumerate(zip(one.shape, other.shape, strict=True))
        if m != n
    }
    found = []
    for one, other in pairs:
        axes = tuple(m != n for m, n in zip(one.shape, other.shape, strict=True))
        elements = []
        if one.dtype.kind in "iu" and one.ndim <= 1 and not any(axes):
            for i, pair in enumerate(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)):
                if pair in lengths:
                    elements.append((i, *lengths[pair]))
        found.append(Following(str(one.dtype), axes, tuple(elements)))
    return tuple(found)


def with_free_lengths(graph: ModelGraph, how: Sequence[Following]) -> ModelGraph:
    """Return a model with the arrays that follow the rows as data of any length.

    Parameters
    ----------
    graph
        The model taken apart.
    how
        See `following`, of any batch of the same model.

    Raises
    ------
    Unfreed
        If it is that of another graph, or PyMC or PyTensor cannot rebuild this one.
    """
    inside = _copied(graph.model)
    leaves = _leaves(inside.outputs)
    if [_kind(leaf.data) for leaf in leaves] != [each.kind for each in how]:
        raise Unfreed("its graph depends on the rows")
    data = {
        place: pytensor.shared(
            leaf.data,
            name=f"rows_{place}",
            shape=tuple(None if free else n for free, n in zip(each.axes, leaf.data.shape, strict=True)),
        )
        for place, (leaf, each) in enumerate(zip(leaves, how, strict=True))
        if any(each.axes)
    }
    new: dict[Variable, Variable] = {leaves[place]: array for place, array in data.items()}
    new |= {leaf: _lengths(leaf, each, data) for leaf, each in zip(leaves, how, strict=True) if each.lengths}
    try:
        copied = FunctionGraph(outputs=_rebuilt(inside.outputs, new), clone=False)
        for name in ("_coords", "_dim_lengths"):  # where `model_from_fgraph` looks for them
            setattr(copied, name, getattr(inside, name))
        model = model_from_fgraph(copied, mutate_fgraph=True)
    except Exception as error:  # an operation that needs the length of its input, or other arguments
        raise Unfreed(f"an operation cannot be made for other lengths ({type(error).__name__})") from error
    values = model.rvs_to_values

    def again(variables: Sequence[FreeVariable]) -> tuple[FreeVariable, ...]:
        named = ((variable, model[variable.name]) for variable in variables)
        return tuple(replace(variable, rv=rv, value=values[rv]) for variable, rv in named)

    return replace(graph, model=model, carried=again(graph.carried), local=again(graph.local))


def _require_same_density(graph: ModelGraph, other: ModelGraph) -> None:
    """Refuse free lengths under which a model has another density at a point near its start."""
    point = {name: value + 0.1 for name, value in graph.model.initial_point(random_seed=0).items()}
    try:
        own, free = (each.model.compile_logp(mode="FAST_COMPILE")(point) for each in (graph, other))
    except Exception as error:  # whatever PyTensor cannot evaluate
        raise Unfreed(f"its density cannot be compared ({type(error).__name__})") from error
    if not np.isclose(own, free, rtol=1e-9, atol=1e-9, equal_nan=True):
        raise Unfreed("its density would be another")


def _lengths(leaf: Any, how: Following, data: dict[int, Any]) -> Variable:
    """Return an integer, or a vector of them, with the lengths of arrays for some of its elements."""
    elements: list[Any] = leaf.data.ravel().tolist()
    if leaf.data.size <= max(place for place, _, _ in how.lengths):
        raise Unfreed("its graph depends on the rows")
    for i, place, axis in how.lengths:
        if data[place].get_value(borrow=True).shape[axis] != elements[i]:
            raise Unfreed("the shapes of its arrays differ in other ways than in their rows")
        elements[i] = data[place].shape[axis]
    made = pt.stack([pt.as_tensor(e) for e in elements]) if leaf.data.ndim else elements[0]
    return made.astype(leaf.data.dtype)


def _rebuilt(outputs: Sequence[Variable], new: dict[Variable, Variable]) -> list[Variable]:
    """Return outputs in terms of new variables; operations find their types anew."""
    found = dict(new)
    for node in toposort(outputs):
        if not any(v in found for v in node.inputs):
            continue
        if isinstance(node.op, SymbolicRandomVariable):
            # Its inner graph has the lengths of its parameters.
            parameters = [found.get(v, v) for v in node.op.dist_params(node)]
            size = node.op.size_param(node)
            size = None if size is None else found.get(size, size)
            made = node.op.rebuild_rv(*parameters, size=size).owner
        else:
            made = node.op.make_node(*(found.get(v, v) for v in node.inputs))
        for old, again in zip(node.outputs, made.outputs, strict=True):
            again.name = old.name
            found[old] = again
    return [found.get(v, v) for v in outputs]


def _any_follows(how: Sequence[Following]) -> bool:
    return any(any(each.axes) for each in how)


def _copied(model: Any) -> FunctionGraph:
    try:
        return fgraph_from_model(model)[0]
    except Exception as error:  # whatever PyMC does not copy, as custom initial values
        raise Unfreed(f"PyMC does not copy the model ({type(error).__name__})") from error


def _leaves(outputs: Sequence[Variable]) -> list[Any]:
    """Return the constant arrays and integers, in the order of the graph."""
    found: list[Any] = [v for v in ancestors(outputs) if isinstance(v, Constant)]
    arrays = [v for v in found if isinstance(v.data, np.ndarray)]
    return [v for v in arrays if v.data.ndim or v.data.dtype.kind in "iu"]


def _constants(outputs: Sequence[Variable]) -> list[np.ndarray]:
    return [leaf.data for leaf in _leaves(outputs)]


def _kind(array: np.ndarray) -> tuple[str, int]:
    return str(array.dtype), array.ndim
