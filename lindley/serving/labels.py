"""The draws of a belief for the labels of a model: those that it knows, and new ones where it may."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from pytensor.tensor.random.op import RandomVariable

from lindley.errors import BatchRefused
from lindley.model.declaration import Declaration


@dataclass(frozen=True)
class Values:
    """Draws of a model's parameters.

    Parameters
    ----------
    arrays
        By variable, [sample, ...] in the order of the model's labels.
    known
        Of the variables with new labels: which elements the arrays have. The others are drawn from the
        model's own distribution of the variable, and what the arrays hold for them has no meaning.
    """

    arrays: dict[str, np.ndarray]
    known: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return sum(array.nbytes for array in self.arrays.values())


def labelled(parameters: Mapping[Any, xr.DataArray], model: Any, declaration: Declaration) -> Values:
    """Return draws of the labels of a model, in its order.

    Parameters
    ----------
    parameters
        Draws [sample, ...] by variable, with labels.
    model
        The model of the inputs.
    declaration
        Its `predict_new` names the dims that may have labels without draws.

    Raises
    ------
    BatchRefused
        If a label without draws may not, or cannot, be drawn from the model.
    """
    arrays, known = {}, {}
    for name, array in parameters.items():
        arrays[str(name)], held = _along_all(array, model, declaration)
        if not held.all():
            _require_independent(str(name), model)
            known[str(name)] = held
    return Values(arrays, known)


def _along_all(array: xr.DataArray, model: Any, declaration: Declaration) -> tuple[np.ndarray, np.ndarray]:
    """Return draws of a variable for the labels of a model, and which of its elements they know."""
    found = np.asarray(array.values)
    known = np.ones(found.shape[1:], bool)
    for axis, dim in enumerate(array.dims[1:]):
        wanted = model.coords.get(dim)
        if wanted is None or dim not in array.coords:
            continue
        held = {str(label): place for place, label in enumerate(array[dim].values)}
        unknown = [str(label) for label in wanted if str(label) not in held]
        if unknown and dim not in declaration.predict_new:
            raise BatchRefused(
                f"The inputs have labels of {dim} that the belief of {declaration.name} has no draws for",
                expected=f"some of {', '.join(list(held)[:20])}",
                found=", ".join(unknown[:5]),
                todo="predict for labels of the belief, update the chain with a batch of the others, or "
                f"declare predict_new=({str(dim)!r},), so that new labels are drawn from the model",
            )
        places = [held.get(str(label), 0) for label in wanted]
        found = np.take(found, places, axis=axis + 1)
        known = np.take(known, places, axis=axis)
        there = np.array([str(label) in held for label in wanted], bool)
        known &= there.reshape([-1 if i == axis else 1 for i in range(known.ndim)])
    return found, known


def _require_independent(name: str, model: Any) -> None:
    """Refuse a variable whose elements are not independent given the others, as a random walk's.

    Its new elements depend on the known ones; drawn by themselves they would have another distribution.
    """
    owner = model[name].owner
    if owner is None or not isinstance(owner.op, RandomVariable) or owner.op.ndim_supp:
        raise BatchRefused(
            f"New labels of {name} cannot be drawn by themselves",
            expected="a variable with independent elements, as pm.Normal with dims",
            found="a distribution of the whole variable",
            todo="predict for labels of the belief, or update the chain with a batch of the new ones",
        )
