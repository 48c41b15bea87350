"""Reuse of models and derived targets: the same model on other data needs no new graph.

Deriving a target (log densities, gradient, digest) takes the better part of a second, and its outcome
depends on the batch only through data. Two models whose own graphs are the same computation of their
data have the same target; only the values of the data differ.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant, Variable
from pytensor.graph.replace import graph_replace
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

from lindley.batch.batch import Batch, joined
from lindley.batch.digest import content_digest
from lindley.cache import Recent
from lindley.model import graph as model_graph
from lindley.model.declaration import Declaration
from lindley.model.free_lengths import freed
from lindley.model.graph import FreeVariable, ModelGraph, is_data
from lindley.model.tensors import placeholder
from lindley.target.engine import Graph, keep, recall, same_computation
from lindley.target.quantities import kept_deterministics

#: The models built last, with the bytes of their rows: hindsight needs the same batches again.
_graphs: Recent[tuple[ModelGraph, int]] = Recent(2**27, lambda held: 2**18 + 4 * held[1])
#: Derived targets kept per process.
_KEEP = 32
_known: list[_Known] = []
_lock = threading.Lock()
_PLAIN = (bool, int, float, str, type(None))


def built(
    declaration: Declaration,
    carried: tuple[str, ...],
    constants: dict[str, float] | None,
    batches: Sequence[Batch],
) -> ModelGraph:
    """Return the model of all rows of some batches. A build function is pure, so it is called once.

    Parameters
    ----------
    declaration, carried, constants
        The chain's.
    batches
        Oldest first.
    """

    def made() -> tuple[ModelGraph, int]:
        batch = batches[0] if len(batches) == 1 else joined(batches)
        context = batch.context_frame()
        frame = batch.frame()
        model = model_graph.build(declaration, frame, context=context, constants=constants)
        found = model_graph.take_apart(declaration, model, carried)
        return freed(found, frame, context, constants), batch.table.nbytes

    known = all(batch.digest for batch in batches)
    if declaration.in_memory or not known:  # the code or the rows have no digest
        return made()[0]
    frozen = tuple(sorted((constants or {}).items()))
    before = ("" if batch.context is None else content_digest(batch.context) for batch in batches)
    digests = (*before, *(batch.digest for batch in batches))
    key = (declaration.name, declaration.model_digest, carried, frozen, *digests)
    graph, _ = _graphs.get(key, made)
    return graph if graph.declaration is declaration else replace(graph, declaration=declaration)


@dataclass(frozen=True)
class _Base:
    """A model's own graph with its data as inputs.

    Parameters
    ----------
    signature
        What identifies the model beside its graph.
    leaves
        Data and generators of random numbers, in the graph's order.
    inputs, outputs
        Placeholders for the leaves, and the graph in terms of them.
    """

    signature: tuple[Any, ...]
    leaves: tuple[Variable, ...]
    inputs: tuple[Variable, ...]
    outputs: tuple[Variable, ...]

    def same(self, other: _Base) -> bool:
        """Whether two models are the same computation of their leaves."""
        return self.signature == other.signature and same_computation(
            (self.inputs, self.outputs), (other.inputs, other.outputs)
        )


@dataclass(frozen=True)
class _Known:
    """A derived target, its model, and the model's leaf for each of its data inputs."""

    base: _Base
    places: tuple[int, ...]
    made: Graph


class _Unfit(Exception):
    """The model cannot be compared with others."""


def reused[T: Graph](graph: ModelGraph, kind: str, derive: Callable[[], T]) -> T:
    """Return what `derive` would return, made from an earlier one where the model is known.

    Parameters
    ----------
    graph
        The model.
    kind
        The kind of graph that is derived: one model has several.
    derive
        Derives it from the model.
    """
    try:
        base = _base(graph, kind)
    except _Unfit:
        return derive()
    with _lock:
        item = recall(_known, lambda item: item.base.same(base))
    if item is not None:
        sources = tuple(base.leaves[place] for place in item.places)
        values = tuple(data_value(source) for source in sources)
        return cast("T", replace(item.made, data_values=values, sources=sources))
    made = derive()
    places = _places(base, made)
    if places is not None:
        # Without the leaves: they hold this batch's data.
        item = _Known(replace(base, leaves=()), places, replace(made, data_values=(), sources=()))
        with _lock:
            keep(_known, item, _KEEP)
    return made


def _base(graph: ModelGraph, kind: str) -> _Base:
    """Return a model's own graph with its data as inputs."""
    model, declaration = graph.model, graph.declaration
    observed = [model.rvs_to_values[rv] for rv in model.observed_RVs]
    named = [*model.free_RVs, *model.observed_RVs, *model.potentials, *model.deterministics]
    lengths = [n for v in graph.free for n in v.lengths if isinstance(n, Variable)]
    outputs = [*named, *observed, *lengths]
    leaves = [v for v in ancestors(outputs) if is_leaf(v, set(observed))]
    inputs, stand_ins = zip(*(placeholder(leaf) for leaf in leaves), strict=True) if leaves else ((), ())
    if leaves:
        outputs = graph_replace(outputs, dict(zip(leaves, stand_ins, strict=True)), strict=False)
    signature = (
        kind,
        tuple(v.name for v in named),
        tuple(v.name for v in kept_deterministics(graph)),
        tuple((v.name, *_shapes(v), v.block.transform) for v in graph.free),
        len(graph.carried),
        tuple((v.value.type, _fixed(model.rvs_to_transforms[v.rv])) for v in graph.free),
        tuple(declaration.carry.items()),
        tuple(sorted(declaration.potentials.items())),
    )
    return _Base(signature, tuple(leaves), tuple(inputs), tuple(outputs))


def _shapes(variable: FreeVariable) -> tuple[Any, ...]:
    """Return the shapes of a free variable that a graph has: what follows the rows has any."""
    if variable.lengths:
        return tuple(None if isinstance(n, Variable) else n for n in variable.lengths)
    return variable.block.shape, variable.block.value_shape


def is_leaf(variable: Variable, observed: set[Variable]) -> bool:
    """Whether a variable differs from batch to batch without changing the graph: data, a generator."""
    if variable.owner is not None:
        return False
    if isinstance(variable, SharedVariable) or isinstance(variable.type, RandomType):
        return True
    return isinstance(variable, Constant) and is_data(variable, observed)


def _fixed(transform: Any) -> tuple[Any, ...]:
    """Return what identifies a transform; one that may hide data is not compared."""
    if transform is None:
        return ()
    kind = type(transform)
    fields = dict(vars(transform))
    function = fields.pop("args_fn", None)
    ours = [kind.__module__, getattr(function, "__module__", None) or "pymc."]
    plain = all(
        isinstance(item, _PLAIN)
        for value in fields.values()
        for item in (value if isinstance(value, tuple) else (value,))
    )
    if not plain or not all(module.startswith("pymc.") for module in ours):
        raise _Unfit
    return (kind.__module__, kind.__qualname__, tuple(sorted((k, repr(v)) for k, v in fields.items())))


def _places(base: _Base, made: Graph) -> tuple[int, ...] | None:
    """Return the leaf of each data input; None where the target does not take all data as inputs."""
    index = {leaf: place for place, leaf in enumerate(base.leaves)}
    if not set(made.sources) <= index.keys():
        return None
    # An array of the model that is no input of the target was folded into it, and binds it to the batch.
    folded = [v for v in base.leaves if isinstance(v, Constant) and v not in set(made.sources)]
    return None if folded else tuple(index[source] for source in made.sources)


def data_value(leaf: Any) -> np.ndarray:
    """Return the value of data, as a target takes it."""
    held = leaf.get_value(borrow=True) if isinstance(leaf, SharedVariable) else leaf.data
    return np.array(held, dtype=leaf.type.dtype, order="C")
