"""Whether parameters mean the same in every batch: whether the log densities of two batches add up.

A chain multiplies the likelihoods of its batches. That is the likelihood of all rows only if the batches are
independent given what is carried, and if nothing that the model computes from a batch as a whole (a mean, a
range, knots, codes of categories) gives the parameters another meaning in each batch. Both are tried on the
first batch: its log density must be the sum of those of its parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytensor
import pytensor.tensor as pt
from pytensor.compile.mode import get_mode

from lindley.errors import CoordinatesMismatch, LindleyError, reason
from lindley.model import graph as model_graph
from lindley.model.coordinates import align
from lindley.model.declaration import Declaration
from lindley.model.graph import ModelGraph, slices
from lindley.model.meaning.moved import moved_data
from lindley.model.refusals import UNOBSERVED
from lindley.model.tensors import interpreted, plain

#: Points at which log densities are compared.
_POINTS = 3
#: Largest difference that is rounding, relative and absolute.
_ROUNDING = 1e-6
#: Rows that a part needs at least: two of them must be able to differ.
_FEWEST = 2
#: Columns of categories by which a batch is split, at most.
_CATEGORIES = 2


@dataclass(frozen=True)
class Meaning:
    """Whether the rows of two batches add up.

    Parameters
    ----------
    adds_up
        None where it cannot be told.
    why
        What does not add up, or why it cannot be told, in sentences.
    later
        What would be refused in a later batch, in sentences.
    """

    adds_up: bool | None = None
    why: tuple[str, ...] = ()
    later: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every link and audit of the chain states."""
        if self.adds_up is not False:
            return ()
        return tuple(f"rows of two batches do not add up: {sentence}" for sentence in self.why)

    def as_dict(self) -> dict[str, Any]:
        """Return it as a record states it."""
        return {"add_up": self.adds_up, "why": list(self.why)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Meaning:
        """Rebuild it from `as_dict`."""
        return cls(data["add_up"], tuple(data["why"]))


@dataclass(frozen=True)
class _Part:
    """Some rows of a batch, as positions, and the model of them."""

    rows: np.ndarray
    graph: ModelGraph


def meaning(
    declaration: Declaration, frame: pd.DataFrame, carried: tuple[str, ...], constants: dict[str, float]
) -> Meaning:
    """Try whether the log densities of two parts of a batch add up to that of the whole.

    Parameters
    ----------
    frame
        The batch's rows, in order.
    carried, constants
        The chain's.
    """
    if declaration.carry:
        return Meaning(why=("the chain hands over state, so that batches are not exchangeable",))
    try:
        whole = _part(declaration, frame, np.arange(len(frame)), carried, constants)
    except Exception as error:  # a model's own code may fail in any way; the fit reports it
        return Meaning(why=(reason(error),))
    tried, broken, unknown, later = 0, list[str](), list[str](), list[str]()
    # With rows before a batch, or variables of single rows, the parts have to be in order.
    in_order = bool(declaration.context or whole.graph.local)
    for rows, name in _splits(frame, in_order=in_order):
        try:
            parts = [_part(declaration, frame, some, carried, constants) for some in rows]
            align(whole.graph.coordinates, [part.graph.coordinates for part in parts])
            broken += [text for text in _broken(whole, parts, frame) if text not in broken]
            tried += 1
        except CoordinatesMismatch as error:
            later.append(f"a batch with {name} alone: {str(error.happened)[0].lower()}{error.happened[1:]}")
        except (Exception, LindleyError) as error:  # as above
            unknown.append(f"{name} alone: {reason(error)}")
    if broken:
        return Meaning(False, tuple(broken), tuple(later))
    if tried:
        return Meaning(True, later=tuple(later))
    why = tuple(unknown + later) or ("the batch has too few rows to be split",)
    return Meaning(None, why, tuple(later))


def _splits(frame: pd.DataFrame, *, in_order: bool) -> Iterator[tuple[list[np.ndarray], str]]:
    """Yield ways to split a batch into two parts, as positions of rows, with the first part in words."""
    every, half = np.arange(len(frame)), len(frame) // 2
    if half < _FEWEST:
        return
    yield [every[:half], every[half:]], "the first half of the rows"
    if in_order:
        return
    texts = [name for name, column in frame.items() if not pd.api.types.is_numeric_dtype(column.dtype)]
    seen = 0
    for name in texts:
        values = pd.unique(frame[name].astype(str))
        if not 2 <= len(values) <= half or seen == _CATEGORIES:
            continue
        first = frame[name].astype(str).isin(sorted(values)[: len(values) // 2]).to_numpy()
        if min(first.sum(), (~first).sum()) >= _FEWEST:
            seen += 1
            yield [every[first], every[~first]], f"some of the values of {name}"


def _part(
    declaration: Declaration,
    frame: pd.DataFrame,
    rows: np.ndarray,
    carried: tuple[str, ...],
    constants: dict[str, float],
) -> _Part:
    """Build the model of some rows, with those before as its context."""
    context = None
    if declaration.context:
        context = frame.iloc[: rows[0]].tail(declaration.context).reset_index(drop=True)
    chosen = frame.iloc[rows].reset_index(drop=True)
    model = model_graph.build(declaration, chosen, context=context, constants=constants)
    return _Part(rows, model_graph.take_apart(declaration, model, carried))


def _broken(whole: _Part, parts: list[_Part], frame: pd.DataFrame) -> list[str]:
    """Return what does not add up, in sentences."""
    points = _points(whole.graph, [part.graph for part in parts])
    if points is None:
        raise ValueError("local variables of the batch as a whole")
    totals: list[dict[str, np.ndarray]] = []
    for part, values in zip([whole, *parts], points, strict=True):
        totals.append(_log_densities(part.graph, values))
    names = dict.fromkeys(name for total in totals for name in total)
    zero = np.zeros(_POINTS)
    found = []
    for name in names:
        together, *apart = (total.get(name, zero) for total in totals)
        if not _same(sum(apart, zero), together):
            found.append(name)
    if not found:
        return []
    moved = moved_data((whole.rows, whole.graph), [(part.rows, part.graph) for part in parts], frame)
    if moved:
        return [f"{', '.join(found)}: {text}" for text in moved]
    return [
        f"{', '.join(found)}: its rows are tied to each other, across batches too (lags, a random walk, a "
        "Gaussian process); declare `context` (rows before a batch) or `carry` (state), unless each batch is "
        "a series of its own"
    ]


def _same(apart: np.ndarray, together: np.ndarray) -> bool:
    """Whether sums agree wherever one of them is finite."""
    some = np.isfinite(apart) | np.isfinite(together)
    return bool(np.isclose(apart, together, rtol=_ROUNDING, atol=_ROUNDING)[some].all())


def _points(whole: ModelGraph, parts: list[ModelGraph]) -> list[list[dict[str, np.ndarray]]] | None:
    """Return values of the unconstrained variables by name: points of the whole, and the same for each part.

    Local variables are divided among the parts along the axis on which the parts' sizes add up; None where
    there is no such axis.
    """
    rng, names = np.random.default_rng(0), whole.coordinates.names
    start = whole.model.initial_point(random_seed=0)
    found: list[list[dict[str, np.ndarray]]] = [[] for _ in range(1 + len(parts))]
    for _ in range(_POINTS):
        point = {v.name: np.asarray(start[v.value.name], float) for v in whole.free}
        point = {name: value + rng.uniform(-0.5, 0.5, value.shape) for name, value in point.items()}
        found[0].append(point)
        u = np.concatenate([np.ravel(point[v.name]) for v in whole.carried] or [np.zeros(0)])
        local = {v.name: point[v.name] for v in whole.local}
        for values, graph in zip(found[1:], parts, strict=True):
            values.append({})
            own = np.array([names.index(name) for name in graph.coordinates.names], dtype=int)
            for variable, place in slices(graph.carried):
                values[-1][variable.name] = u[own][place].reshape(variable.block.value_shape)
        divided = _divided(local, [{v.name: v.block.value_shape for v in graph.local} for graph in parts])
        if divided is None:
            return None
        for values, pieces in zip(found[1:], divided, strict=True):
            values[-1] |= pieces
    return found


def _divided(
    local: dict[str, np.ndarray], shapes: list[dict[str, tuple[int, ...]]]
) -> list[dict[str, np.ndarray]] | None:
    """Divide the whole's local variables among the parts."""
    found: list[dict[str, np.ndarray]] = [{} for _ in shapes]
    if {name for of_part in shapes for name in of_part} - local.keys():
        return None
    for name, value in local.items():
        sizes = [of_part.get(name) for of_part in shapes]
        shown = [shape for shape in sizes if shape is not None]
        axis = next(
            (
                axis
                for axis in range(value.ndim)
                if sum(shape[axis] for shape in shown if len(shape) == value.ndim) == value.shape[axis]
                and all(shape[:axis] + shape[axis + 1 :] == _without(value.shape, axis) for shape in shown)
            ),
            None,
        )
        if axis is None:
            return None
        start = 0
        for pieces, shape in zip(found, sizes, strict=True):
            if shape is not None:
                pieces[name] = np.take(value, range(start, start + shape[axis]), axis=axis)
                start += shape[axis]
    return found


def _without(shape: tuple[int, ...], axis: int) -> tuple[int, ...]:
    return shape[:axis] + shape[axis + 1 :]


def _log_densities(graph: ModelGraph, points: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the log density [point] of each variable whose term stays in every link, by name.

    A variable of which PyMC has imputed values counts under the name that it has without.
    """
    variables = graph.batch_variables()
    terms = graph.model.logp(vars=variables, sum=False)
    with interpreted():
        function = pytensor.function(
            [variable.value for variable in graph.free],
            [pt.sum(plain(term)) for term in terms],
            mode=get_mode("FAST_COMPILE").including("local_check_parameter_to_ninf_switch"),
            on_unused_input="ignore",
        )
    found: dict[str, np.ndarray] = {}
    rows = np.array([function(*_arguments(graph, point)) for point in points], dtype=float)
    for variable, column in zip(variables, rows.T, strict=True):
        name = re.sub(rf"({UNOBSERVED}|_observed)$", "", str(variable.name))
        found[name] = found.get(name, np.zeros(len(points))) + column
    return found


def _arguments(graph: ModelGraph, point: dict[str, np.ndarray]) -> list[np.ndarray]:
    return [np.asarray(point[v.name], dtype=v.value.dtype) for v in graph.free]
