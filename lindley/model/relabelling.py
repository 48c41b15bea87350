"""Reorder the draws of a trace that was sampled elsewhere by a model's dims and labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from lindley.errors import ModelRefused
from lindley.model.coordinates import Block, positions

#: Labels that an error names at most.
_SHOWN = 5


def in_order(array: xr.DataArray, block: Block) -> np.ndarray:
    """Return draws of a variable in the order of the model's dims and labels.

    Dims are matched by name, those whose names the model does not have in their order; elements by label,
    wherever both sides have labels. Elements are matched by position only without labels, as in traces whose
    dims are called ``beta_dim_0``.

    Parameters
    ----------
    array
        Draws with the dims chain, draw and the variable's own, in any order.
    block
        The model's variable.

    Returns
    -------
    numpy.ndarray
        Array [chain, draw, ...] of the block's shape.

    Raises
    ------
    ModelRefused
        If labels or shape are not those of the model.
    """
    drawn = array.transpose("chain", "draw", ...)
    own = [str(dim) for dim in drawn.dims[2:]]
    if len(own) != len(block.shape):
        # A number and an array of one number are the same values.
        if not {drawn.shape[2:], block.shape} <= {(), (1,)}:
            raise _other_shape(drawn, block)
        return np.asarray(drawn.values, dtype=float).reshape(*drawn.shape[:2], *block.shape)
    drawn = drawn.transpose("chain", "draw", *_paired(own, drawn, block))
    for axis in range(len(block.shape)):
        drawn = _along(drawn, axis, block)
    return np.asarray(drawn.values, dtype=float)


def _paired(own: list[str], drawn: xr.DataArray, block: Block) -> list[str]:
    """Return the trace's dims in the order of the model's."""
    others = [dim for dim in own if dim not in block.dims]
    wanted = block.dims or ("",) * len(own)
    found = [dim if dim in own else others.pop(0) for dim in wanted]
    if sorted(found) != sorted(own):
        raise _other_shape(drawn, block)
    return found


def _along(drawn: xr.DataArray, axis: int, block: Block) -> xr.DataArray:
    """Bring the elements along one axis of the variable into the order of the model's labels."""
    dim, length = str(drawn.dims[axis + 2]), block.shape[axis]
    wanted = block.labels[axis] if block.labels else positions(length)
    named = dim in drawn.coords
    held = _texts(drawn[dim].values, wanted) if named else positions(drawn.sizes[dim])
    same_dim = named and dim in block.dims
    counted = held in (positions(len(held)), _from_one(len(held)))
    if not same_dim and (counted or wanted == positions(length)):
        if len(held) != length:
            raise _other_shape(drawn, block)
        return drawn
    if sorted(held) != sorted(wanted):
        raise _other_labels(drawn, dim, held, wanted, block)
    return drawn.isel({dim: [held.index(label) for label in wanted]})


def _from_one(count: int) -> tuple[str, ...]:
    """Return the positions as languages that count from 1 name them."""
    return tuple(str(place) for place in range(1, count + 1))


def _texts(values: np.ndarray, wanted: tuple[str, ...]) -> tuple[str, ...]:
    """Return labels as text, dates and whole numbers as the model writes them.

    Files keep text as bytes or padded to one length, and years as floats.
    """
    if values.dtype.kind == "f" and (values == np.round(values)).all():
        whole = tuple(str(int(value)) for value in values)
        return whole if set(whole) == set(wanted) else tuple(str(value) for value in values)
    texts = tuple(
        value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values
    )
    if set(texts) != set(wanted):
        stripped = tuple(text.rstrip("\0 ") for text in texts)
        texts = stripped if set(stripped) == set(wanted) else texts
    if values.dtype.kind == "M" and set(texts) != set(wanted):
        return tuple(str(pd.Timestamp(value)) for value in values)
    return texts


def _other_shape(drawn: xr.DataArray, block: Block) -> ModelRefused:
    return ModelRefused(
        f"The variable {block.name!r} has another shape in the trace",
        expected=f"{block.shape}, dims {', '.join(map(str, block.dims)) or 'without names'}",
        found=f"{drawn.shape[2:]} of {drawn.name}, dims {', '.join(map(str, drawn.dims[2:])) or 'none'}",
        todo="give the model the dims that the trace was sampled with, or the trace those of the model",
    )


def _other_labels(
    drawn: xr.DataArray, dim: str, held: tuple[str, ...], wanted: tuple[str, ...], block: Block
) -> ModelRefused:
    wrong = {
        "that the model does not have": [label for label in dict.fromkeys(held) if label not in wanted],
        "missing": [label for label in wanted if label not in held],
        "more than once": [label for label in dict.fromkeys(held) if held.count(label) > 1],
    }
    found = [f"{what}: {_list(labels)}" for what, labels in wrong.items() if labels]
    return ModelRefused(
        f"The variable {block.name!r} has other labels in the trace",
        expected=f"along {dim} each of {_list(list(wanted))}, once",
        found=f"in {drawn.name} labels {'; '.join(found)}",
        todo="give the model the full list of labels (coords) that the trace was sampled with, or the "
        "trace's dim those of the model (xarray's assign_coords)",
    )


def _list(labels: list[str]) -> str:
    more = f" and {len(labels) - _SHOWN} more" if len(labels) > _SHOWN else ""
    return ", ".join(labels[:_SHOWN]) + more
