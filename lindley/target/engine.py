"""Compiled graphs: compiled once, reused for every prior and batch.

PyTensor's numba backend keeps its machine code on disk, so a new process is ready in one or two seconds.
nutpie's own numba wrappers would be compiled in every process (docs/adr/0003-engine.md has the
measurements); those of `lindley.target.native` are kept on disk too.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import pytensor
from pytensor.compile.mode import get_mode
from pytensor.graph.basic import Variable, equal_computations

from lindley.errors import ModelRefused
from lindley.target._compat import jitted
from lindley.target.native import Code, density_code, supported, table_code
from lindley.target.native_calls import Density, Table, Words
from lindley.target.native_pool import part_code
from lindley.target.quantities import Quantities

#: Compiled graphs kept per process.
_KEEP = 16
_compiled: list[Functions] = []
_lock = threading.RLock()


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Functions of the same inputs, as PyTensor graphs.

    Parameters
    ----------
    free
        Inputs other than data.
    example
        Arrays for them, to run the functions once with.
    functions
        Outputs by the function that computes them.
    digest
        Sha256 of the graph's structure, data left out. It depends on PyTensor's version, which the record
        states too.
    data, data_values
        Inputs for the model's data and the arrays inlined in it, and their values for this batch.
    sources
        The model's variables that these inputs replace.
    inlined
        Number of constants among them: the model's shapes are those of this batch.
    """

    free: tuple[Variable, ...]
    example: tuple[np.ndarray, ...]
    functions: dict[str, list[Variable]]
    digest: str
    data: tuple[Variable, ...] = ()
    data_values: tuple[np.ndarray, ...] = ()
    sources: tuple[Variable, ...] = ()
    inlined: int = 0

    @property
    def inputs(self) -> tuple[Variable, ...]:
        """All inputs of the compiled functions."""
        return (*self.free, *self.data)

    @property
    def outputs(self) -> list[Variable]:
        """All outputs: what identifies the graph."""
        return [output for outputs in self.functions.values() for output in outputs]

    def try_out(self, _name: str, function: Function) -> None:
        """Run a function once, which compiles what is left to compile."""
        function(*self.example, *self.data_values)


class Function:
    """One compiled function of a graph.

    Parameters
    ----------
    inputs, outputs
        The graph's.
    compiled
        The function that PyTensor compiled from them.
    """

    def __init__(self, inputs: Sequence[Variable], outputs: Sequence[Variable], compiled: Any) -> None:
        self._inputs, self._outputs = tuple(inputs), tuple(outputs)
        self._shared = [variable.get_value(borrow=True) for variable in compiled.get_shared()]
        self._jitted: Callable[..., Any] = jitted(compiled)
        self._code: dict[str, Code] = {}

    def __call__(self, *arguments: Any) -> Any:
        """Return the outputs at some inputs."""
        return self._jitted(*arguments, *self._shared)

    @property
    def count(self) -> int:
        """Number of outputs."""
        return len(self._outputs)

    @property
    def is_native(self) -> bool:
        """Whether it can be called as machine code."""
        return not self._shared and supported([*self._inputs, *self._outputs])

    def density(self, arrays: Sequence[np.ndarray]) -> Density:
        """Return a log density and its gradient with all inputs but the first bound."""
        code = self._coded("density", density_code)
        return Density(code, Words.of(arrays, code.inputs[1:]), int(code.inputs[0].type.shape[0]))

    def table(self, arrays: Sequence[np.ndarray]) -> Table:
        """Return quantities at many points with all inputs but the first bound."""
        return Table(self._coded("table", table_code), arrays)

    def part(self, varying: Mapping[int, int]) -> Code:
        """Return the function as a part of a pool; see `lindley.target.native_pool.part_code`."""
        return self._coded(f"part {dict(varying)}", partial(part_code, varying=varying))

    def _coded(self, kind: str, make: Callable[..., Code]) -> Code:
        with _lock:
            if kind not in self._code:
                self._code[kind] = make(self._jitted, self._inputs, self._outputs)
            return self._code[kind]


class Functions(dict[str, Function]):
    """The functions of a graph, each compiled on first use.

    Raises
    ------
    ModelRefused
        On the use of one that PyTensor cannot compile.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self._refused: dict[str, ModelRefused] = {}

    def __missing__(self, name: str) -> Function:
        """Compile a function, unless another thread has done so meanwhile."""
        with _lock:
            if name in self._refused:
                raise self._refused[name]
            if name not in self:
                try:
                    self[name] = _compile(self.graph, name)
                except ModelRefused as error:
                    self._refused[name] = error
                    raise
            return self[name]

    def describe(self) -> str:
        """Compile the quantities, with deterministics where that can be; return the function's name."""
        try:
            self["quantities"]
        except ModelRefused:
            self["essential"]
            return "essential"
        return "quantities"


def by_point(
    function: Callable[..., tuple[Any, ...]], vectors: Sequence[np.ndarray], count: int
) -> tuple[np.ndarray, ...]:
    """Return an array [point, ...] for each of `count` outputs, computed point by point from its vectors."""
    rows = [
        tuple(np.array(value) for value in function(*map(np.array, point)))
        for point in zip(*vectors, strict=True)
    ]
    return tuple(np.array([row[i] for row in rows]) for i in range(count))


def lazy_table(
    function: Callable[[], Function], arrays: Sequence[np.ndarray]
) -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
    """Return quantities as a function of points [point, x], compiled on first use: arrays [point, ...].

    Parameters
    ----------
    function
        Returns the compiled function.
    arrays
        All its inputs but x.
    """

    @cache
    def rows() -> Callable[[np.ndarray], tuple[np.ndarray, ...]]:
        compiled = function()
        if compiled.is_native:
            return compiled.table(arrays).at
        return lambda points: by_point(lambda x: compiled(x, *arrays), (points,), compiled.count)

    def table(points: np.ndarray) -> tuple[np.ndarray, ...]:
        return rows()(points)

    return table


@dataclass(frozen=True)
class Bound:
    """A target with prior and data bound: a function of the sampler's vector alone.

    Parameters
    ----------
    size
        Length of the vector.
    names
        Quantities of the names that those of `table` have.
    log_density
        ``f(x) -> (log density, gradient [x])``.
    table
        ``f(points [point, x]) -> tuple of arrays [point, ...]``, the quantities in their fixed order.
    density
        The log density as machine code, where it is: it needs no Python and takes many points at once.
    essential
        The same without deterministics, where these can fail by themselves.
    """

    size: int
    names: Quantities[Any]
    log_density: Callable[[np.ndarray], tuple[float, np.ndarray]]
    table: Callable[[np.ndarray], tuple[np.ndarray, ...]]
    density: Density | None = None
    essential: Bound | None = None

    def log_densities(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return log densities [point] and gradients [point, x] at points [point, x]."""
        if self.density is not None:
            return self.density.at(points)
        found = [self.log_density(np.array(point)) for point in points]
        gradients = np.array([np.array(gradient) for _, gradient in found]).reshape(points.shape)
        return np.array([float(value) for value, _ in found]), gradients

    def evaluate(self, points: np.ndarray) -> Quantities[np.ndarray]:
        """Return arrays [..., quantity's own shape] at points [..., x].

        Deterministics that cannot be computed are left out: they are no part of an update.
        """
        try:
            found = self.table(points.reshape(-1, points.shape[-1]))
        except Exception:  # a deterministic may hold any operation
            if self.essential is None:
                raise
            return self.essential.evaluate(points)
        return self.names.filled([v.reshape(*points.shape[:-1], *v.shape[1:]) for v in found])


def bind(
    size: int,
    names: Quantities[Any],
    density: Function,
    quantities: Callable[[], Function],
    arrays: Sequence[np.ndarray],
    shown: Sequence[np.ndarray] | None = None,
    essential: Callable[[], Function] | None = None,
) -> Bound:
    """Bind prior and data, as machine code where that can be.

    Parameters
    ----------
    size, names
        Of the target.
    density, quantities
        Its compiled function, and one that returns that of its quantities.
    arrays
        All inputs but x of the density.
    shown
        Those of the quantities, where they are others.
    essential
        Returns the compiled function of the quantities without deterministics.
    """
    native = density.density(arrays) if density.is_native else None
    shown = arrays if shown is None else shown
    whole = Bound(
        size=size,
        names=names,
        log_density=native or (lambda x: density(x, *arrays)),
        table=lazy_table(quantities, shown),
        density=native,
    )
    if essential is None or not names.deterministics:
        return whole
    table = lazy_table(essential, shown)
    return replace(whole, essential=replace(whole, names=names.essential(), table=table))


def compiled(graph: Graph) -> tuple[Functions, bool]:
    """Return the functions of a graph, and whether the process had them before."""
    with _lock:
        known = recall(_compiled, lambda item: _same(item.graph, graph))
        if known is not None:
            return known, True
        return keep(_compiled, Functions(graph), _KEEP), False


def recall[T](kept: list[T], same: Callable[[T], bool]) -> T | None:
    """Return the kept item that is the same, and mark it as the last one used; None where there is none."""
    for place, item in enumerate(kept):
        if same(item):
            kept.append(kept.pop(place))
            return item
    return None


def keep[T](kept: list[T], item: T, most: int) -> T:
    """Keep an item in place of those used longest ago, at most so many; return it."""
    kept.append(item)
    del kept[:-most]
    return item


def _same(old: Graph, new: Graph) -> bool:
    """Whether two graphs are the same computation of their inputs."""
    outline, wanted = ({name: len(v) for name, v in g.functions.items()} for g in (old, new))
    if old.digest != new.digest or outline != wanted:
        return False
    # The digest abbreviates long constants; the comparison does not.
    return same_computation((old.inputs, old.outputs), (new.inputs, new.outputs))


def same_computation(
    one: tuple[Sequence[Variable], Sequence[Variable]], other: tuple[Sequence[Variable], Sequence[Variable]]
) -> bool:
    """Whether two graphs, each given as inputs and outputs, are the same function of the same types."""
    (inputs, outputs), (their_inputs, their_outputs) = one, other
    if [v.type for v in inputs] != [v.type for v in their_inputs]:
        return False
    return bool(equal_computations(list(outputs), list(their_outputs), list(inputs), list(their_inputs)))


def _compile(graph: Graph, name: str) -> Function:
    """Compile a function of a graph with PyTensor's numba backend, and run it once."""
    inputs, outputs = list(graph.inputs), graph.functions[name]
    try:
        function = Function(inputs, outputs, numba_function(inputs, outputs))
        graph.try_out(name, function)
    except Exception as error:
        raise ModelRefused(
            "The model's graph cannot be compiled",
            expected="operations that PyTensor's numba backend implements",
            found=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}",
            todo="run pm.sample on the model by itself; replace custom operations by PyTensor's own",
        ) from error
    return function


def value_of(variable: Variable) -> np.ndarray:
    """Return the value of a variable without inputs; threads take turns, as PyTensor keeps the function."""
    with _lock:
        return np.array(variable.eval(mode="FAST_COMPILE"))


def numba_function(inputs: list[Variable], outputs: list[Variable]) -> Any:
    """Compile a function with PyTensor's numba backend; PyMC's parameter checks give -inf, no exceptions.

    Threads take turns. What they may share is the machine code inside (`jitted`): the function keeps its
    arguments and results between calls.
    """
    mode = get_mode("NUMBA").including("local_check_parameter_to_ninf_switch")
    with _lock, warnings.catch_warnings():
        # Numba falls back to object mode with a warning where an operation has no implementation.
        warnings.simplefilter("ignore")
        return pytensor.function(inputs, outputs, mode=mode, on_unused_input="ignore")
