"""Coordinates: a model's carried variables in PyMC's unconstrained space, flattened and labelled.

For each carried free variable x with PyMC's value transform T, u = T(x). All of them concatenated
give u in R^d. Positive, interval, simplex, ordered, Cholesky-factor and zero-sum variables then need
no special case. Labels travel with every coordinate, so links are matched by name, never by position.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from lindley.errors import CoordinatesMismatch


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
        What maps between the two, with its bounds, e.g. ``"log"`` or ``"interval(0, 763)"``.
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

    def names(self) -> list[str]:
        """Return the coordinates' names, e.g. ``beta[north]``; positions where no label belongs."""
        if not self.value_shape:
            return [self.name]
        if self.elementwise and self.labels:
            axes: list[tuple[str, ...]] = list(self.labels)
        else:
            axes = [tuple(str(i) for i in range(n)) for n in self.value_shape]
        return [f"{self.name}[{', '.join(index)}]" for index in product(*axes)]

    def as_dict(self) -> dict[str, Any]:
        """Return the block as JSON-able values."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "value_shape": list(self.value_shape),
            "transform": self.transform,
            "dims": list(self.dims),
            "labels": [list(axis) for axis in self.labels],
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Block:
        """Rebuild a block from `as_dict`."""
        return cls(
            name=data["name"],
            shape=tuple(data["shape"]),
            value_shape=tuple(data["value_shape"]),
            transform=data["transform"],
            dims=tuple(data["dims"]),
            labels=tuple(tuple(axis) for axis in data["labels"]),
        )


@dataclass(frozen=True)
class Coordinates:
    """All carried variables of a model, in a fixed order."""

    blocks: tuple[Block, ...]

    @property
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

    def as_list(self) -> list[dict[str, Any]]:
        """Return the coordinates as JSON-able values."""
        return [block.as_dict() for block in self.blocks]

    @classmethod
    def from_list(cls, data: list[dict[str, Any]]) -> Coordinates:
        """Rebuild coordinates from `as_list`."""
        return cls(tuple(Block.from_dict(item) for item in data))


def permutation(prior: Coordinates, model: Coordinates) -> np.ndarray:
    """Return where each of the model's coordinates stands in the prior's, matched by label.

    Parameters
    ----------
    prior
        Coordinates of the belief that passes on.
    model
        Coordinates of the model that is about to be updated.

    Returns
    -------
    numpy.ndarray
        Integer array [coordinate]: ``prior_vector[permutation]`` is in the model's order.

    Raises
    ------
    CoordinatesMismatch
        If a variable, its transform, its shape or its labels cannot be matched.
    """
    offsets, start = {}, 0
    for block in prior.blocks:
        offsets[block.name] = (start, block)
        start += block.size
    index: list[int] = []
    for block in model.blocks:
        if block.name not in offsets:
            raise CoordinatesMismatch(
                f"The carried variable {block.name!r} is not in the chain's belief",
                expected=f"carried variables {', '.join(prior.variables)}",
                found=f"carried variables {', '.join(model.variables)}",
                todo="give the variable its old name, or leave it out of `carried` so that it stays local",
            )
        offset, old = offsets.pop(block.name)
        index.extend(offset + position for position in _positions(old, block))
    if offsets:
        raise CoordinatesMismatch(
            f"The model has no free variable for the carried {', '.join(map(repr, offsets))}",
            expected=f"carried variables {', '.join(prior.variables)}",
            found=f"carried variables {', '.join(model.variables)}",
            todo="keep the variable in the model, or start a new chain",
        )
    return np.array(index, dtype=int)


def _positions(old: Block, new: Block) -> list[int]:
    """Return, for each coordinate of `new`, its position inside `old`."""
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
    _require_same_labels(old, new)
    if old.labels == new.labels or not new.labels:
        return list(range(new.size))
    if not new.elementwise:
        raise CoordinatesMismatch(
            f"The labels of the carried variable {new.name!r} come in another order",
            expected=f"{list(old.labels)}",
            found=f"{list(new.labels)}",
            todo="sort the labels in the model: this variable's coordinates mix its labels",
        )
    where = {key: position for position, key in enumerate(product(*old.labels))}
    return [where[key] for key in product(*new.labels)]


def _require_same_labels(old: Block, new: Block) -> None:
    """Refuse new and vanished labels by name."""
    if old.shape != new.shape and not (old.labels and new.labels):
        raise CoordinatesMismatch(
            f"The shape of the carried variable {new.name!r} changed",
            expected=f"{old.shape}",
            found=f"{new.shape}",
            todo="name its dims with coords, or leave it out of `carried` so that it stays local",
        )
    for dim, before, after in zip(new.dims, old.labels, new.labels, strict=False):
        added, gone = sorted(set(after) - set(before)), sorted(set(before) - set(after))
        if added or gone:
            raise CoordinatesMismatch(
                f"The labels of dim {dim!r} of the carried variable {new.name!r} changed",
                expected=f"the chain's {len(before)} labels",
                found=f"new {added[:5]}, vanished {gone[:5]}",
                todo="give the model the chain's full list of labels, so that every batch has all of them",
            )
