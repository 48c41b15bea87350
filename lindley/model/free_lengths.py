"""Models that hold a batch's rows as constants, as models whose arrays may have any length.

``observed=batch["y"].to_numpy()`` puts an array of fixed length into the graph, and a batch of another length
would be another graph, to be compiled anew. Where building the model from more rows makes an array longer,
its axis follows the rows: the array becomes data of any length there, as with `pm.Data`. An integer that
grows with such an axis, as in the shape of a distribution, becomes its length. Everything else of the model,
arrays of fixed length included, stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
from pymc.distributions.distribution import SymbolicRandomVariable
from pymc.model.fgraph import ModelFreeRV, fgraph_from_model, model_from_fgraph
from pytensor.compile.builders import OpFromGraph
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.traversal import ancestors, toposort
from pytensor.tensor.type import TensorType

from lindley.cache import Recent
from lindley.model.graph import DATA_SIZE, FreeVariable, ModelGraph, shapes_of
from lindley.model.tensors import interpreted


@dataclass(frozen=True)
class Following:
    """How a constant of a model follows the rows.

    Parameters
    ----------
    dtype
        Its type; that of all whole numbers is one, as PyTensor gives a small number a small type.
    axes
        Whether each of its axes does.
    lengths
        Elements that are lengths: the place of each, and the place of the constant and its axis.
    differs
        Whether it is a number, or has numbers, that differ with the rows and are the length of no constant.
    """

    dtype: str
    axes: tuple[bool, ...]
    lengths: tuple[tuple[int, int, int], ...] = ()
    differs: bool = False

    @property
    def kind(self) -> tuple[str, int]:
        """Type and number of axes: those of the same constant in the model of any rows."""
        return self.dtype, len(self.axes)

    @property
    def follows(self) -> bool:
        """Whether any of it does."""
        return self.differs or bool(self.lengths) or any(self.axes)


@dataclass(frozen=True)
class Form:
    """How a model follows the rows.

    Parameters
    ----------
    constants
        How each of its constants does, in the order of its graph.
    growing
        Which axes of the values of free variables do, by name: of those that have such an axis.
    """

    constants: tuple[Following, ...]
    growing: dict[str, tuple[bool, ...]]


#: How models follow the rows, or why that is unknown; by the model's code, or by its build function, and by
#: what constants there are: a batch with missing values makes another graph than one without.
_known: Recent[Form | str] = Recent(256, lambda _: 1)


#: Why no compilation can serve all lengths, however the model holds its data.
GROWING = "a carried variable grows with the rows"


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
    try:
        inside = _copied(graph.model)
    except Unfreed as error:
        return replace(graph, sized=str(error))
    kinds = tuple(_kind(leaf.data) for leaf in _leaves(inside.outputs))
    made: list[ModelGraph] = []

    def found() -> Form | str:
        try:
            twice = pd.concat([frame, frame], ignore_index=True)
            larger = declaration.build(twice, **declaration.extras(twice, context, constants))
        except Exception as error:  # a build function may refuse such rows
            return f"it cannot be built from its rows twice over ({type(error).__name__})"
        try:
            form = following(graph, inside, larger)
            if _follows(form):
                made.append(with_free_lengths(graph, inside, form))
                _require_same_density(graph, made[0])
        except Unfreed as error:
            return str(error)
        return form

    form = _known.get(
        (declaration.build if declaration.in_memory else declaration.model_digest, kinds), found
    )
    if isinstance(form, str):
        return replace(graph, sized=form)
    if not _follows(form):
        return graph
    try:
        return replace(graph, unsized=made[0] if made else with_free_lengths(graph, inside, form))
    except Unfreed as error:
        return replace(graph, sized=str(error))


def following(graph: ModelGraph, inside: FunctionGraph, larger: Any) -> Form:
    """Return how a model follows the rows.

    Parameters
    ----------
    graph, inside
        The model of some rows taken apart, and its copy.
    larger
        The model of more rows.

    Raises
    ------
    Unfreed
        If the two are different computations, or a carried variable grows.
    """
    ours, theirs = (_constants(each.outputs) for each in (inside, _copied(larger)))
    if [_kind(one) for one in ours] != [_kind(other) for other in theirs]:
        raise Unfreed("its graph depends on the number of rows")
    growing = _growing(graph, larger)
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
        elements, differs = [], False
        if one.ndim <= 1 and not any(axes) and one.size < DATA_SIZE:
            for i, pair in enumerate(zip(one.ravel().tolist(), other.ravel().tolist(), strict=True)):
                if one.dtype.kind in "iu" and pair in lengths:
                    elements.append((i, *lengths[pair]))
                elif pair[0] != pair[1] and pair[0] == pair[0]:  # nor NaN
                    differs = True
        found.append(Following(_kind(one)[0], axes, tuple(elements), differs))
    return Form(tuple(found), growing)


def _growing(graph: ModelGraph, larger: Any) -> dict[str, tuple[bool, ...]]:
    """Return which axes of the values of local variables grow, by name."""
    theirs, found = shapes_of(larger), {}
    if [rv.name for rv in larger.free_RVs] != [rv.name for rv in graph.model.free_RVs]:
        raise Unfreed("its free variables depend on the number of rows")
    for variable in graph.free:
        own, other = variable.block.value_shape, theirs[variable.value.name]
        if own == other:
            continue
        if variable not in graph.local or len(own) != len(other):
            raise Unfreed(GROWING)
        found[variable.name] = tuple(m != n for m, n in zip(own, other, strict=True))
    return found


def with_free_lengths(graph: ModelGraph, inside: FunctionGraph, form: Form) -> ModelGraph:
    """Return a model with the arrays that follow the rows as data of any length.

    Parameters
    ----------
    graph, inside
        The model taken apart, and its copy, which is used up.
    form
        See `following`, of any batch of the same model.

    Raises
    ------
    Unfreed
        If it is that of another graph, or PyMC or PyTensor cannot rebuild this one.
    """
    leaves, how = _leaves(inside.outputs), form.constants
    if [_kind(leaf.data) for leaf in leaves] != [each.kind for each in how]:
        raise Unfreed("its graph depends on the rows")
    data = {
        place: pytensor.shared(
            leaf.data,
            name=f"rows_{place}",
            shape=tuple(None if free else n for free, n in zip(each.axes, leaf.data.shape, strict=True)),
        )
        for place, (leaf, each) in enumerate(zip(leaves, how, strict=True))
        if any(each.axes) or each.differs
    }
    new: dict[Variable, Variable] = {leaves[place]: array for place, array in data.items()}
    new |= {
        leaf: _lengths(leaf, each, data, data.get(place))
        for place, (leaf, each) in enumerate(zip(leaves, how, strict=True))
        if each.lengths
    }
    new |= _free_values(inside, form.growing)
    try:
        copied = FunctionGraph(outputs=_rebuilt(inside.outputs, new), clone=False)
        for name in ("_coords", "_dim_lengths"):  # where `model_from_fgraph` looks for them
            setattr(copied, name, getattr(inside, name))
        model = model_from_fgraph(copied, mutate_fgraph=True)
    except Unfreed:
        raise
    except Exception as error:  # an operation that needs the length of its input, or other arguments
        raise Unfreed(f"an operation cannot be made for other lengths ({type(error).__name__})") from error
    values = model.rvs_to_values

    def again(variables: Sequence[FreeVariable]) -> tuple[FreeVariable, ...]:
        named = ((variable, model[variable.name]) for variable in variables)
        return tuple(
            replace(variable, rv=rv, value=values[rv], lengths=_value_lengths(variable, form.growing))
            for variable, rv in named
        )

    return replace(graph, model=model, carried=again(graph.carried), local=again(graph.local))


def _free_values(inside: FunctionGraph, growing: Mapping[str, tuple[bool, ...]]) -> dict[Variable, Variable]:
    """Return values of any length for those of free variables that grow."""
    found: dict[Variable, Variable] = {}
    for node in toposort(inside.outputs):
        if isinstance(node.op, ModelFreeRV) and node.op.name in growing:
            value = node.inputs[1]
            if not isinstance(value.type, TensorType):
                raise Unfreed(GROWING)
            shape = [
                None if free else n for free, n in zip(growing[node.op.name], value.type.shape, strict=True)
            ]
            found[value] = value.type.clone(shape=shape)(name=value.name)
    return found


def _value_lengths(variable: FreeVariable, growing: Mapping[str, tuple[bool, ...]]) -> tuple[Any, ...]:
    """Return the lengths of a variable's value: data where they grow; nothing where none does."""
    axes = growing.get(variable.name)
    if axes is None:
        return ()
    shape = variable.block.value_shape
    held = pytensor.shared(np.array(shape, dtype=np.int64), name=f"lengths_{variable.name}")
    return tuple(held[i] if free else n for i, (free, n) in enumerate(zip(axes, shape, strict=True)))


def _require_same_density(graph: ModelGraph, other: ModelGraph) -> None:
    """Refuse free lengths under which a model has another density at a point near its start."""
    point = {name: value + 0.1 for name, value in graph.model.initial_point(random_seed=0).items()}
    try:
        with interpreted():
            own, free = (each.model.compile_logp(mode="FAST_COMPILE")(point) for each in (graph, other))
    except Exception as error:  # whatever PyTensor cannot evaluate
        raise Unfreed(f"its density cannot be compared ({type(error).__name__})") from error
    if not np.isclose(own, free, rtol=1e-9, atol=1e-9, equal_nan=True):
        raise Unfreed("its density would be another")


def _lengths(leaf: Any, how: Following, data: dict[int, Any], held: Any) -> Variable:
    """Return an integer, or a vector of them, with the lengths of arrays for some of its elements.

    `held` is the same as data, where other elements differ with the rows; None where they do not.
    """
    elements: list[Any] = leaf.data.ravel().tolist()
    if leaf.data.size <= max(place for place, _, _ in how.lengths):
        raise Unfreed("its graph depends on the rows")
    if held is not None:
        elements = [held[i] for i in range(leaf.data.size)] if leaf.data.ndim else [held]
    for i, place, axis in how.lengths:
        if data[place].get_value(borrow=True).shape[axis] != leaf.data.ravel()[i]:
            raise Unfreed("the shapes of its arrays differ in other ways than in their rows")
        elements[i] = data[place].shape[axis]
    made = pt.stack([pt.as_tensor(e) for e in elements]) if leaf.data.ndim else elements[0]
    return made.astype("int64")


def _rebuilt(outputs: Sequence[Variable], new: dict[Variable, Variable]) -> list[Variable]:
    """Return outputs in terms of new variables; operations find their types anew."""
    found = dict(new)
    for node in toposort(outputs):
        if not any(v in found for v in node.inputs):
            continue
        made = _remade(node, [found.get(v, v) for v in node.inputs])
        for old, again in zip(node.outputs, made, strict=True):
            again.name = old.name
            found[old] = again
    return [found.get(v, v) for v in outputs]


def _remade(node: Any, inputs: list[Variable]) -> Sequence[Variable]:
    """Return the outputs of an operation for other inputs."""
    op, made = node.op, None
    if isinstance(op, SymbolicRandomVariable) and op.extended_signature is not None:
        # Its inner graph has the lengths of its parameters; some take other arguments, as series do.
        given = SimpleNamespace(inputs=inputs)
        with suppress(Exception):
            made = op.rebuild_rv(*op.dist_params(given), size=op.size_param(given)).owner
        if made is not None and not all(map(_alike, node.outputs, made.outputs)):
            made = None
    if made is None and isinstance(op, OpFromGraph) and not all(map(_takes, op.inner_inputs, inputs)):
        made = _with_inner_types(op, inputs).make_node(*inputs)
    outputs: Sequence[Variable] = (made or op.make_node(*inputs)).outputs
    return outputs


def _alike(one: Variable, other: Variable) -> bool:
    """Whether two variables have equally many axes, where they have any."""
    return getattr(one.type, "ndim", None) == getattr(other.type, "ndim", None)


def _takes(inner: Variable, given: Variable) -> bool:
    """Whether an inner graph's input takes a variable as it is."""
    return bool(inner.type.is_super(given.type))


def _with_inner_types(op: Any, given: Sequence[Variable]) -> Any:
    """Return an operation with an inner graph for inputs of other types."""
    if isinstance(op.pullback_overrides, OpFromGraph):
        raise Unfreed(f"the gradient of {op} has fixed lengths")
    inner = op.fgraph.unfreeze()
    inputs = [variable.type() for variable in given]
    outputs = _rebuilt(inner.outputs, dict(zip(inner.inputs, inputs, strict=True)))
    return op.clone_with_inner_graph(FunctionGraph(inputs, outputs, clone=False))


def _follows(form: Form) -> bool:
    return bool(form.growing) or any(each.follows for each in form.constants)


def _copied(model: Any) -> FunctionGraph:
    """Return a model as a graph of its own. Where chains start is no part of it."""
    own = object.__new__(type(model))
    vars(own).update(vars(model))
    own.rvs_to_initial_values = dict.fromkeys(model.rvs_to_initial_values)
    try:
        return fgraph_from_model(own)[0]
    except Exception as error:  # whatever PyMC does not copy, as models inside models
        raise Unfreed(f"PyMC does not copy the model ({type(error).__name__})") from error


def _leaves(outputs: Sequence[Variable]) -> list[Any]:
    """Return the constant arrays and numbers, in the order of the graph."""
    found: list[Any] = [v for v in ancestors(outputs) if isinstance(v, Constant)]
    return [v for v in found if isinstance(v.data, np.ndarray)]


def _constants(outputs: Sequence[Variable]) -> list[np.ndarray]:
    return [leaf.data for leaf in _leaves(outputs)]


def _kind(array: np.ndarray) -> tuple[str, int]:
    return "whole numbers" if array.dtype.kind in "iu" else str(array.dtype), array.ndim
