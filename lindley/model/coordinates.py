"""Coordinates: a model's carried variables in PyMC's unconstrained space, flattened and labelled.

For each carried free variable x with PyMC's value transform T, u = T(x). All of them concatenated
give u in R^d. Positive, interval, simplex, ordered, Cholesky-factor and zero-sum variables then need
no special case. Labels travel with every coordinate, so links are matched by name, never by position.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import chain, product
from typing import Any

import numpy as np

from lindley.errors import CoordinatesMismatch

#: Transforms whose coordinates are differences or ratios of elements although they are as many.
_MIXING = ("ordered", "sum", "simplex", "stickbreaking", "cholesky")
#: Transform of an angle: its coordinate is the angle, and whole turns make no difference.
_CIRCULAR = "circular"


@dataclass(frozen=True)
class Block:
    """One carried variable.

    Parameters
    ----------
    name
        Name of the free variable.
    shape
        Shape on the natural scale.
    value_shape
        Shape in the unconstrained space; another one for simplex, zero-sum and Cholesky factors.
    transform
        The transform between the two, with its bounds, e.g. ``"log"`` or ``"interval(0, 763)"``.
    dims
        Names of the dims, empty when the model gives none.
    labels
        One tuple of labels per dim.
    """

    name: str
    shape: tuple[int, ...]
    value_shape: tuple[int, ...]
    transform: str
    dims: tuple[str, ...] = ()
    labels: tuple[tuple[str, ...], ...] = ()

    @property
    def size(self) -> int:
        """Number of coordinates."""
        return int(np.prod(self.value_shape, dtype=int))

    @property
    def elementwise(self) -> bool:
        """Whether each coordinate belongs to one labelled element of the variable."""
        return self.shape == self.value_shape

    @property
    def mixes(self) -> bool:
        """Whether a coordinate depends on several elements, so that labels cannot appear or vanish."""
        return not self.elementwise or any(word in self.transform for word in _MIXING)

    @property
    def circular(self) -> bool:
        """Whether the coordinates are angles."""
        return self.transform == _CIRCULAR

    def names(self) -> list[str]:
        """Return the coordinates' names, e.g. ``beta[north]``; positions where no label belongs."""
        named = self.elementwise and self.labels and self.value_shape
        return element_names(self.name, self.labels if named else [positions(n) for n in self.value_shape])

    def as_dict(self) -> dict[str, Any]:
        """Return the block as JSON-able values."""
        return {name: _with(list, value) for name, value in vars(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Block:
        """Rebuild a block from `as_dict`."""
        return cls(**{field.name: _with(tuple, data[field.name]) for field in fields(cls)})


def element_names(name: str, axes: Sequence[Sequence[str]]) -> list[str]:
    """Name a variable's elements by the labels of its axes; a variable without axes has its own name."""
    return [f"{name}[{', '.join(labels)}]" for labels in product(*axes)] if axes else [name]


def positions(length: int) -> tuple[str, ...]:
    """Return the labels of an axis that a model gives none: positions."""
    return tuple(str(i) for i in range(length))


def _with(kind: type, value: Any) -> Any:
    """Return a value with its tuples and lists, and those inside, as `kind`."""
    return kind(_with(kind, item) for item in value) if isinstance(value, (tuple, list)) else value


@dataclass(frozen=True)
class Coordinates:
    """All carried variables of a model, in a fixed order."""

    blocks: tuple[Block, ...]

    @cached_property
    def size(self) -> int:
        """Number of coordinates d."""
        return sum(block.size for block in self.blocks)

    @property
    def names(self) -> list[str]:
        """Names of the d coordinates, in order."""
        return [name for block in self.blocks for name in block.names()]

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the carried variables, in order."""
        return tuple(block.name for block in self.blocks)

    @property
    def circular(self) -> np.ndarray:
        """Which coordinates are angles, array [coordinate] of bool."""
        return np.array([block.circular for block in self.blocks for _ in range(block.size)], dtype=bool)

    def as_list(self) -> list[dict[str, Any]]:
        """Return the coordinates as JSON-able values."""
        return [block.as_dict() for block in self.blocks]

    @classmethod
    def from_list(cls, data: list[dict[str, Any]]) -> Coordinates:
        """Rebuild coordinates from `as_list`."""
        return cls(tuple(Block.from_dict(item) for item in data))


@dataclass(frozen=True)
class Layout:
    """Positions of the coordinates of a belief and of models in the vector of all of them.

    Parameters
    ----------
    coordinates
        All coordinates: those of the belief and those that batches add, in the newest model's order of
        variables. Where batches have no labels that the belief lacks, it is the newest model's.
    belief_at
        Array [coordinate of the belief] of positions.
    new_at
        Array [new coordinate] of positions that the belief does not have.
    model_at
        One array [coordinate of the model] of positions per batch.
    first_seen
        One array [coordinate of the model] of bool per batch: neither the belief nor an earlier batch
        has the coordinate, so that its prior is the model's own.
    """

    coordinates: Coordinates
    belief_at: np.ndarray
    new_at: np.ndarray
    model_at: tuple[np.ndarray, ...]
    first_seen: tuple[np.ndarray, ...]

    @property
    def plain(self) -> bool:
        """Whether one batch has exactly the belief's coordinates (or there is no belief yet)."""
        size = self.coordinates.size
        same = len(self.model_at) == 1 and np.array_equal(self.model_at[0], np.arange(size))
        return same and (len(self.new_at) == 0 or len(self.belief_at) == 0)


def align(belief: Coordinates | None, models: Sequence[Coordinates]) -> Layout:
    """Match coordinates by variable and label.

    Parameters
    ----------
    belief
        Coordinates of the belief before the batches; None before the first link.
    models
        Coordinates of the models of the batches, oldest first.

    Raises
    ------
    CoordinatesMismatch
        If a variable, its transform, its dims or its labels cannot be matched.
    """
    every = ([belief] if belief is not None else []) + list(models)
    newest = models[-1]
    for other in every[:-1]:
        _require_same_variables(other, newest)
    by_name = [{block.name: block for block in other.blocks} for other in every]
    union = Coordinates(tuple(_united([blocks[name] for blocks in by_name]) for name in newest.variables))
    # A chain whose labels stay keeps the order that its newest model has.
    if union.size == newest.size:
        union = newest
    where = {name: position for position, name in enumerate(union.names)}
    places = [np.array([where[name] for name in other.names], dtype=int) for other in every]
    belief_at = places[0] if belief is not None else np.zeros(0, dtype=int)
    model_at = places[1:] if belief is not None else places
    known = set(belief_at.tolist())
    first_seen = []
    for place in model_at:
        first_seen.append(np.array([position not in known for position in place], dtype=bool))
        known |= set(place.tolist())
    new_at = np.setdiff1d(np.arange(union.size), belief_at)
    nowhere = sorted(set(range(union.size)) - known)
    if nowhere:
        raise CoordinatesMismatch(
            "Labels of several dims changed at once",
            expected="every element of a carried variable in the belief or in a batch",
            found=f"{', '.join(union.names[i] for i in nowhere[:5])} in neither",
            todo="give the model the full list of labels of all dims but one",
        )
    return Layout(union, belief_at, new_at, tuple(model_at), tuple(first_seen))


def _require_same_variables(old: Coordinates, new: Coordinates) -> None:
    """Refuse carried variables that appear or vanish."""
    added = [name for name in new.variables if name not in old.variables]
    gone = [name for name in old.variables if name not in new.variables]
    if added:
        what = f"The carried variable {added[0]!r} is not in the chain's belief"
        todo = "give the variable its old name, or leave it out of `carried` so that it stays local"
    elif gone:
        what = f"The model has no free variable for the carried {', '.join(map(repr, gone))}"
        todo = "keep the variable in the model, or start a new chain"
    else:
        return
    raise CoordinatesMismatch(
        what,
        expected=f"carried variables {', '.join(old.variables)}",
        found=f"carried variables {', '.join(new.variables)}",
        todo=todo,
    )


def _united(versions: list[Block]) -> Block:
    """Return a variable with the labels of all its versions, those of the oldest first."""
    first, last = versions[0], versions[-1]
    for block in versions[:-1]:
        _require_same_kind(block, last)
    if all(block.labels == last.labels and block.shape == last.shape for block in versions):
        return last
    axes = list(zip(*(block.labels for block in versions), strict=True))
    if last.mixes:
        raise CoordinatesMismatch(
            f"The labels of the carried variable {last.name!r} changed",
            expected=f"{[list(axis) for axis in first.labels]}, in this order",
            found=f"{[list(axis) for axis in last.labels]}",
            todo="give the model the full list of labels, sorted: this variable's coordinates mix them",
        )
    if any(_positions_only(axis) for axis in axes):
        raise CoordinatesMismatch(
            f"The size of the carried variable {last.name!r} changed",
            expected=f"{first.shape}",
            found=f"{last.shape}",
            todo="name the labels of its dims with coords, or leave it out of `carried` so it stays local",
        )
    # The labels of all versions, each once, in order of appearance.
    labels = tuple(tuple(dict.fromkeys(chain.from_iterable(axis))) for axis in axes)
    shape = tuple(len(axis) for axis in labels)
    return Block(last.name, shape, shape, last.transform, last.dims, labels)


def _positions_only(axes: tuple[tuple[str, ...], ...]) -> bool:
    """Whether an axis changed that has positions instead of labels, as where a model names none."""
    numbered = any(axis == positions(len(axis)) for axis in axes)
    return numbered and len(set(axes)) > 1


def _require_same_kind(old: Block, new: Block) -> None:
    """Refuse another support or other dims."""
    if old.transform != new.transform:
        raise CoordinatesMismatch(
            f"The support of the carried variable {new.name!r} changed",
            expected=f"transform {old.transform}",
            found=f"transform {new.transform}",
            todo="make its bounds constants that do not depend on the batch, or start a new chain",
        )
    if old.dims != new.dims or len(old.shape) != len(new.shape):
        raise CoordinatesMismatch(
            f"The dims of the carried variable {new.name!r} changed",
            expected=f"dims {old.dims} with shape {old.shape}",
            found=f"dims {new.dims} with shape {new.shape}",
            todo="keep the variable's dims, or start a new chain",
        )
    if old.shape != new.shape and not (old.labels and new.labels):
        raise CoordinatesMismatch(
            f"The shape of the carried variable {new.name!r} changed",
            expected=f"{old.shape}",
            found=f"{new.shape}",
            todo="name its dims with coords, or leave it out of `carried` so that it stays local",
        )
