"""Predictive draws of a model's observed variables, given draws of its parameters."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import Mode
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Apply, Constant, Variable
from pytensor.graph.fg import FunctionGraph
from pytensor.graph.op import HasInnerGraph
from pytensor.graph.replace import graph_replace, vectorize_graph
from pytensor.graph.traversal import ancestors, toposort
from pytensor.scalar.basic import Cast
from pytensor.tensor.elemwise import Elemwise
from pytensor.tensor.random.op import RandomVariable
from pytensor.tensor.random.type import RandomType
from pytensor.tensor.shape import Reshape

from lindley.model.tensors import alike, placeholder, plain
from lindley.target._compat import jitted
from lindley.target.engine import keep, numba_function, recall, same_computation

_lock = threading.RLock()
_known: list[tuple[tuple[list[Variable], list[Variable]], Callable[..., Any]]] = []
_prepared: list[_Known] = []
_KEEP, _KEEP_PREPARED = 8, 32
#: Approximate size of the largest array in a call, in numbers.
_MOST_NUMBERS = 2_000_000


#: PyTensor's own evaluation, operation by operation, with NumPy: nothing to compile, nothing to share.
_NUMPY = Mode(linker="py", optimizer=None)


def predictive_draws(
    model: Any,
    values: dict[str, np.ndarray],
    *,
    rng: np.random.Generator,
    variables: list[Variable] | None = None,
) -> dict[str, np.ndarray]:
    """Draw the observed variables, or others, once for each given draw of the parameters.

    Parameters
    ----------
    model
        A built PyMC model.
    values
        Natural-scale draws of its free variables by name, arrays [sample, ...]. Free variables that are
        not given (local ones) are drawn from their prior given the others.
    rng
        Source of randomness.
    variables
        Which random variables of the model are drawn; the observed ones by default.

    Returns
    -------
    dict
        Arrays [sample, ...] by variable.
    """
    found: dict[str, np.ndarray] = {}
    start = 0
    for block in predictive_blocks(model, values, rng=rng, variables=variables):
        for name, drawn in block.items():
            if name not in found:
                count = len(next(iter(values.values())))
                found[name] = np.empty((count, *drawn.shape[1:]), drawn.dtype)
            found[name][start : start + len(drawn)] = drawn
        start += len(drawn)
    return found


def predictive_blocks(
    model: Any,
    values: dict[str, np.ndarray],
    *,
    rng: np.random.Generator,
    variables: list[Variable] | None = None,
    strict: bool = False,
) -> Iterator[dict[str, np.ndarray]]:
    """Yield what `predictive_draws` returns in parts, so that no more than a part need be in memory.

    The parts depend on the shapes of model and values only: the same arguments give the same numbers. Any
    number of threads may draw at once.

    Parameters
    ----------
    model, values, rng, variables
        As in `predictive_draws`.
    strict
        Whether parameters that a distribution does not admit (a negative count of trials) are an error. By
        default what comes out for them has no meaning.

    Raises
    ------
    Exception
        What a distribution raises, if `strict`.
    """
    observed = list(model.observed_RVs) if variables is None else variables
    given = [rv for rv in model.free_RVs if rv.name in values]
    prepared, data = prepare(observed, given)
    yield from prepared.blocks(values, data, rng=rng, strict=strict)


@dataclass(frozen=True)
class Prepared:
    """Predictive draws of one graph, whatever its data: made once, drawn from by any number of threads.

    Parameters
    ----------
    names
        Of the variables that are drawn.
    given
        Names and dtypes of the parameters, in the order of the inputs.
    results, wanted
        The graph for many draws of the parameters at once, or for one, and its inputs: parameters, random
        generators, data.
    generators
        How many of the inputs are generators.
    many
        Whether it takes many draws of the parameters at once.
    in_numpy
        Whether NumPy evaluates it.
    """

    names: tuple[str, ...]
    given: tuple[tuple[str, Any], ...]
    results: tuple[Variable, ...]
    wanted: tuple[Variable, ...]
    generators: int
    many: bool
    in_numpy: bool
    #: Functions that no thread uses now. A function keeps arrays, so it has one user at a time.
    _idle: list[Callable[..., Any]] = field(default_factory=list, compare=False)
    #: The machine code, once it was needed.
    _code: list[Callable[..., Any]] = field(default_factory=list, compare=False)

    def blocks(
        self,
        values: Mapping[str, np.ndarray],
        data: Sequence[np.ndarray],
        *,
        rng: np.random.Generator,
        strict: bool = False,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Yield draws in parts; see `predictive_blocks`. `data` are those of `data_of`, in its order."""
        points = [np.array(values[name], dtype=dtype, order="C") for name, dtype in self.given]
        count = len(next(iter(values.values())))
        step = 1
        if self.many:
            # Some draws at a time: every intermediate array has this factor in its size.
            sizes = [*(array.size for array in data), *(array[0].size for array in points)]
            step = max(1, _MOST_NUMBERS // max(1, *sizes))
        for start in range(0, count, step):
            some = [array[start : start + step] for array in points]
            # Each random variable of the graph has its own generator input, with its own stream.
            streams = [np.random.default_rng(s) for s in rng.integers(2**63, size=self.generators)]
            if not self.many:
                some = [np.asarray(array[0]) for array in some]
            drawn = self._drawn([*some, *streams, *data], strict)
            yield {name: v if self.many else v[None] for name, v in zip(self.names, drawn, strict=True)}

    def _drawn(self, arguments: list[Any], strict: bool) -> list[np.ndarray]:
        """Return the outputs, evaluated with NumPy where that can be, else by the compiled function."""
        if self.in_numpy:
            try:
                evaluate = self._idle.pop()
            except IndexError:
                evaluate = _numpy_function(self.results, self.wanted)
            try:
                found = [np.array(value) for value in evaluate(*arguments)]
            except NotImplementedError:  # an operation that only compiled code has
                pass
            except Exception:
                if strict:
                    raise
            else:
                if len(self._idle) < _KEEP and sum(value.size for value in found) < _MOST_NUMBERS:
                    self._idle.append(evaluate)
                return found
        if not self._code:
            self._code.append(_compiled(list(self.results), list(self.wanted)))
        return [np.array(value) for value in self._code[0](*arguments)]


@dataclass(frozen=True)
class _Known:
    """A prepared graph with the variables that it was made of."""

    observed: list[Variable]
    given: list[Variable]
    leaves: list[Variable]
    prepared: Prepared

    def is_for(self, observed: list[Variable], given: list[Variable], leaves: list[Variable]) -> bool:
        ours, theirs = [*self.given, *self.leaves], [*given, *leaves]
        named = [v.name for v in (*self.observed, *self.given)] == [v.name for v in (*observed, *given)]
        alike = named and len(self.leaves) == len(leaves)
        return alike and same_computation((ours, self.observed), (theirs, observed))


def prepare(
    observed: list[Variable],
    given: list[Variable],
    *,
    known: Mapping[str, np.ndarray] | None = None,
) -> tuple[Prepared, list[np.ndarray]]:
    """Return how to draw variables of a model, made once for each graph, and the model's data.

    Parameters
    ----------
    observed, given
        The variables that are drawn, and the free variables whose draws will be given.
    known
        For some of the given: which elements are given. The others are drawn from the variable's own
        distribution, given its parameters. Elements must be independent given the parameters.
    """
    if known:
        observed, given = _partly(observed, given, known)
    random, fixed = _leaves(observed, given)
    leaves = [*random, *fixed]
    data = [data_of(v) for v in fixed]
    with _lock:
        held = recall(_prepared, lambda item: item.is_for(observed, given, leaves))
    if held is not None:
        return held.prepared, data
    prepared = _prepare(observed, given, random, fixed)
    if sum(array.size for array in data) < _MOST_NUMBERS:  # what is kept holds the data that it was made of
        with _lock:
            keep(_prepared, _Known(observed, given, leaves, prepared), _KEEP_PREPARED)
    return prepared, data


def _partly(
    observed: list[Variable], given: list[Variable], known: Mapping[str, np.ndarray]
) -> tuple[list[Variable], list[Variable]]:
    """Return observed variables with some elements of the given drawn anew, and what is given then."""
    names = [variable.name for variable in observed]
    swapped = {}
    # What depends on another of them is replaced first: it then sees what stands for the other.
    for rv in reversed([node.outputs[1] for node in toposort(observed) if len(node.outputs) == 2]):
        if rv.name in known and rv in given:
            _, anew = rv.owner.clone().outputs
            entry, stand_in = placeholder(rv, rv.name)
            mask = pt.constant(known[rv.name])
            observed = graph_replace(observed, {rv: alike(pt.switch(mask, plain(stand_in), plain(anew)), rv)})
            swapped[rv] = entry
    for variable, name in zip(observed, names, strict=True):
        variable.name = name
    return observed, [swapped.get(rv, rv) for rv in given]


def data_of(variable: Variable) -> np.ndarray:
    """Return the array that a constant or a shared variable holds."""
    held: Any = variable
    shared = isinstance(variable, SharedVariable)
    return np.array(held.get_value(borrow=True) if shared else held.data, order="C")


def _prepare(
    observed: list[Variable], given: list[Variable], random: list[Variable], fixed: list[Variable]
) -> Prepared:
    made = [placeholder(rv, f"given_{i}") for i, rv in enumerate(given)]
    held = [placeholder(v, f"input_{i}") for i, v in enumerate([*random, *fixed])]
    swap = {v: stand_in for v, (_, stand_in) in zip([*given, *random, *fixed], [*made, *held], strict=True)}
    outputs = [plain(target) for target in graph_replace(observed, swap, strict=False)]
    single, rest = [entry for entry, _ in made], [entry for entry, _ in held]
    many = _many_at_once(outputs, single)
    results, wanted = (outputs, [*single, *rest]) if many is None else (many[0], [*many[1], *rest])
    return Prepared(
        names=tuple(str(rv.name) for rv in observed),
        given=tuple((str(rv.name), rv.dtype) for rv in given),
        results=tuple(results),
        wanted=tuple(wanted),
        generators=len(random),
        many=many is not None,
        in_numpy=many is not None and _in_numpy(results),
    )


def _in_numpy(outputs: list[Variable]) -> bool:
    """Whether NumPy evaluates a graph quickly: without a loop in Python over the elements of an array."""
    for node in toposort(outputs):
        scalar = node.op.scalar_op if isinstance(node.op, Elemwise) else None
        if not (scalar is None or isinstance(scalar, Cast) or getattr(scalar, "nfunc_spec", None)):
            return False
    return True


def _numpy_function(outputs: Sequence[Variable], inputs: Sequence[Variable]) -> Callable[..., Any]:
    """Return a graph's function that NumPy evaluates.

    It belongs to its caller: PyTensor's functions keep arrays between calls, so threads must not share one.
    """
    with _lock:  # the graph is shared, and PyTensor copies it
        function: Callable[..., Any] = pytensor.function(
            list(inputs), list(outputs), mode=_NUMPY, on_unused_input="ignore"
        )
    return function


def _many_at_once(
    outputs: list[Variable], single: list[Variable]
) -> tuple[list[Variable], list[Variable]] | None:
    """Return outputs for many draws of the parameters, and these as inputs; None where that cannot be.

    Every random variable has to depend on a given parameter, or to state its size: any other would be drawn
    only once, and the draws would not be independent. Loops, and distributions that consist of several
    operations, are evaluated one draw at a time.
    """
    graph = FunctionGraph(outputs=outputs, clone=True, copy_inputs=False)
    nodes = graph.toposort()
    if not single or any(isinstance(node.op, HasInnerGraph) for node in nodes):
        return None
    many = [pt.tensor(v.name, dtype=v.dtype, shape=(None, *v.type.shape)) for v in single]
    swap = dict(zip(single, many, strict=True))
    random = [node for node in nodes if isinstance(node.op, RandomVariable)]
    for node in random:
        size = node.op.size_param(node)
        if isinstance(size.type, pt.TensorType):
            # PyTensor takes new dims from a variable's first parameter only, on which they may not depend.
            stand_in = size.type()
            graph.change_node_input(node, node.inputs.index(size), stand_in, import_missing=True)
            swap[stand_in] = pt.concatenate([many[0].shape[:1], size])
    targets = [*graph.outputs, *(node.outputs[1] for node in random)]
    try:
        found = vectorize_graph(targets, swap)
    except Exception:  # operations that cannot be vectorized raise errors of any type
        return None
    if any(new.type.ndim != old.type.ndim + 1 for new, old in zip(found, targets, strict=True)):
        return None
    return found[: len(outputs)], many


def _leaves(outputs: list[Variable], parameters: list[Variable]) -> tuple[list[Variable], list[Variable]]:
    """Return the generators of a graph and the variables that hold its data, both in the graph's order.

    Arrays that a model holds as constants are data too: other rows need no other function.
    """
    given = set(parameters)
    between = [v for v in ancestors(outputs, blockers=given) if v not in given]
    lengths = {v for node in toposort(outputs, blockers=given) for v in _lengths(node)}
    leaves = [v for v in between if v.owner is None]
    random = [v for v in leaves if isinstance(v.type, RandomType)]
    fixed = [
        v
        for v in leaves
        if not isinstance(v.type, RandomType)
        and (isinstance(v, SharedVariable) or (_is_array(v) and v not in lengths))
    ]
    return random, fixed


def _is_array(variable: Variable) -> bool:
    """Whether a variable is a constant array."""
    return (
        isinstance(variable, Constant) and isinstance(variable.type, pt.TensorType) and variable.type.ndim > 0
    )


def _lengths(node: Apply) -> list[Variable]:
    """Return the inputs of an operation that are lengths of dims: as constants they fix the graph's types."""
    if isinstance(node.op, RandomVariable):
        return [node.op.size_param(node)]
    return list(node.inputs[1:]) if isinstance(node.op, Reshape) else []


def _compiled(outputs: list[Variable], inputs: list[Variable]) -> Callable[..., Any]:
    """Return a graph's function as machine code, compiled once per process.

    It keeps nothing between calls, unlike the function of PyTensor around it, so threads may share it.
    """
    graph = inputs, outputs
    with _lock:
        known = recall(_known, lambda item: same_computation(item[0], graph))
        return (known or keep(_known, (graph, jitted(numba_function(*graph))), _KEEP))[1]
