"""The groups of a trace: arrays with the model's dims and labels, in ArviZ's schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from lindley.model.coordinates import Coordinates
from lindley.model.graph import ModelGraph
from lindley.report.omissions import Omissions
from lindley.target.engine import value_of

#: Binary digits that draws of a trace keep; see `rounded`.
DIGITS = 20
#: Binary digits of a double, and powers of two within its range.
_MANTISSA, _RANGE = 53, 1000


def assemble(
    graph: ModelGraph,
    coordinates: Coordinates,
    values: dict[str, np.ndarray],
    carried: np.ndarray,
    weights: np.ndarray | None = None,
) -> xr.DataTree:
    """Return a trace with the groups posterior and coordinates.

    Parameters
    ----------
    graph, values
        The model, for dims and labels, and natural-scale draws [chain, draw, ...] by name.
    coordinates, carried
        Draws [chain, draw, coordinate] that the next link's prior is matched to, and their coordinates.
    weights
        Weights [draw] of these draws in the match, chains one after the other; equal ones by default.
    """
    group = xr.Dataset(
        {"u": (("chain", "draw", "coordinate"), carried)},
        coords={
            "chain": np.arange(carried.shape[0]),
            "draw": np.arange(carried.shape[1]),
            "coordinate": coordinates.names,
        },
    )
    if weights is not None:
        group["weight"] = (("chain", "draw"), weights.reshape(carried.shape[:2]))
    posterior = draws_dataset(graph.model, values)
    return xr.DataTree.from_dict({"/posterior": posterior, "/coordinates": group})


def observed_data(model: Any) -> xr.Dataset:
    """Return the observed values."""
    values = {}
    for rv in model.observed_RVs:
        value = model.rvs_to_values[rv]
        held = value.get_value() if hasattr(value, "get_value") else getattr(value, "data", None)
        if held is None:
            held = value_of(value)
        values[rv.name] = np.asarray(held)
    return draws_dataset(model, values, ())


def draws_dataset(
    model: Any, values: dict[str, np.ndarray], sample_dims: tuple[str, ...] = ("chain", "draw")
) -> xr.Dataset:
    """Attach the model's dims and labels to arrays whose first dims are `sample_dims`."""
    variables, coords = {}, {}
    for name, value in values.items():
        shape = value.shape[len(sample_dims) :]
        dims = _dims(model, name, shape)
        variables[name] = (sample_dims + dims, value)
        for dim, length in zip(dims, shape, strict=True):
            labels = model.coords.get(dim)
            coords[dim] = np.asarray(range(length) if labels is None else labels)
    for i, dim in enumerate(sample_dims):
        coords[dim] = np.arange(next(iter(values.values())).shape[i])
    return xr.Dataset(variables, coords={dim: _plain(labels) for dim, labels in coords.items()})


def rounded(values: np.ndarray) -> np.ndarray:
    """Round draws far below what they are uncertain by, so that they take half of the space in a file.

    Parameters
    ----------
    values
        Array [chain, draw, ...] of real numbers; other arrays are returned as they are.

    Returns
    -------
    numpy.ndarray
        Each value is within 2**-`DIGITS` of it, both relative to itself and to the interquartile range of its
        element: rounding (on a grid of powers of two) adds less than a millionth to a standard error.
    """
    if values.dtype != float or values.size == 0 or not np.isfinite(values).any():
        return values
    with np.errstate(all="ignore"):
        low, high = np.nanquantile(np.where(np.isfinite(values), values, np.nan), (0.25, 0.75), axis=(0, 1))
        own, width = np.frexp(values)[1], np.frexp(high - low)[1]
        # A constant has no width; all of its digits count as its own.
        grid = np.minimum(own, np.where(high > low, width, own)) - DIGITS
        found = np.ldexp(np.rint(np.ldexp(values, -grid)), grid)
    # Further digits than a double has, or numbers at the end of its range, stay as they are.
    plain = np.isfinite(values) & (own - grid < _MANTISSA) & (np.abs(grid) < _RANGE)
    return np.where(plain, found, values)


def storable(values: dict[str, np.ndarray], omissions: Omissions) -> dict[str, np.ndarray]:
    """Return the arrays that a trace's file can hold: of numbers."""
    for name, value in values.items():
        if value.dtype.kind not in "biuf":
            omissions.add(name, f"values of type {value.dtype}")
    return {name: value for name, value in values.items() if value.dtype.kind in "biuf"}


def _dims(model: Any, name: str, shape: tuple[int, ...]) -> tuple[str, ...]:
    """Return a variable's dims; positions where the model gives it none, or dims of other lengths."""
    own = tuple(f"{name}_dim_{i}" for i in range(len(shape)))
    named = tuple(model.named_vars_to_dims.get(name) or ())
    labels = [model.coords.get(dim) for dim in named]
    fits = len(named) == len(shape) and len(set(named)) == len([dim for dim in named if dim is not None])
    if not fits or any(of is not None and len(of) != n for of, n in zip(labels, shape, strict=False)):
        return own
    return tuple(dim or position for dim, position in zip(named, own, strict=True))


def _plain(labels: np.ndarray) -> np.ndarray:
    """Return labels as numbers, dates or text, the types that files can hold."""
    if labels.ndim > 1:  # labels of several levels
        return np.array([str(label) for label in labels.tolist()])
    return labels.astype(str) if labels.dtype.kind in "OUS" else labels


def add_modes(tree: xr.DataTree, mode_of: np.ndarray, each: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Add to a trace which mode each draw belongs to, and the draws that each mode's match was made of.

    Parameters
    ----------
    tree
        The trace; changed.
    mode_of
        Array [chain, draw] of the numbers of the modes.
    each
        Draws [chain, draw, coordinate] of each mode, and their weights [draw], chains one after the other.
        Modes with fewer draws than others are filled up with missing ones.
    """
    group = tree["coordinates"].dataset.assign(mode=(("chain", "draw"), mode_of))
    tree["coordinates"] = xr.DataTree(group)
    chains, longest = each[0][0].shape[0], max(u.shape[1] for u, _ in each)
    filled = np.full((len(each), chains, longest, each[0][0].shape[2]), np.nan)
    weights = np.full((len(each), chains, longest), np.nan)
    for number, (u, weight) in enumerate(each):
        filled[number, :, : u.shape[1]] = u
        weights[number, :, : u.shape[1]] = weight.reshape(chains, -1)
    dims = ("mode", "chain", "draw")
    tree["modes"] = xr.DataTree(
        xr.Dataset(
            {"u": ((*dims, "coordinate"), filled), "weight": (dims, weights)},
            coords={"coordinate": group["coordinate"].values},
        )
    )
