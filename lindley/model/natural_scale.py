"""The belief about each carried element on its natural scale, vanished labels included.

The posterior of a link's trace has the labels of the newest batch. A label that this batch does not have
stays among the coordinates that are carried forward, jointly with the others; its natural scale is computed
here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr
from scipy.special import expit

from lindley.model.coordinates import Block, Coordinates, element_names

#: An interval transform whose bounds are numbers or none; see `lindley.model.graph`.
_INTERVAL = re.compile(r"interval\(([^\s\[\]]+), ([^\s\[\]]+)\)")
#: From coordinates to the natural scale, by PyMC's transform without bounds.
_BACKWARD: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": np.array,
    "log": np.exp,
    "logodds": expit,
    "log_exp_m1": lambda u: np.logaddexp(0.0, u),
    "circular": lambda u: np.arctan2(np.sin(u), np.cos(u)),
}


def carried_values(
    tree: xr.DataTree, coordinates: Coordinates, carry: Mapping[str, str]
) -> dict[str, np.ndarray]:
    """Return natural-scale draws of every carried element that a belief has.

    Parameters
    ----------
    tree, coordinates, carry
        As in `carried_arrays`.

    Returns
    -------
    dict
        Arrays [chain, draw] by element label, e.g. ``beta[north]``, as in the summary.
    """
    found: dict[str, np.ndarray] = {}
    for array in carried_arrays(tree, coordinates, carry).values():
        flat = array.values.reshape(*array.shape[:2], -1)
        found |= {label: flat[..., i] for i, label in enumerate(element_labels(array))}
    return found


def carried_arrays(
    tree: xr.DataTree, coordinates: Coordinates, carry: Mapping[str, str]
) -> dict[str, xr.DataArray]:
    """Return natural-scale draws of every carried variable with all the labels that a belief has.

    Parameters
    ----------
    tree
        A link's trace, with the groups posterior and coordinates.
    coordinates
        The belief's.
    carry
        The source of state: carried quantity by the variable that takes its value.

    Returns
    -------
    dict
        Arrays [chain, draw, ...] by variable, state as it is carried forward. A variable with a vanished
        label and a transform other than PyMC's own for single elements has the newest batch's labels only.
    """
    posterior, group = tree["posterior"].dataset, tree["coordinates"].dataset
    place = {str(name): i for i, name in enumerate(group["coordinate"].values)}
    found = {}
    for block in coordinates.blocks:
        held = posterior[block.name]
        source = carry.get(block.name, block.name)
        # An imported trace has its state under the name of the variable that takes it.
        newest = held.copy(data=posterior[source].values.reshape(held.shape)) if source in posterior else held
        found[block.name] = _all_elements(newest, block, group["u"].values, place)
    return found


def element_labels(array: xr.DataArray) -> list[str]:
    """Return one label per element of a variable [chain, draw, ...]."""
    # xarray gives the positions of a dim without labels.
    return element_names(str(array.name), [[str(v) for v in array[dim].values] for dim in array.dims[2:]])


def _all_elements(newest: xr.DataArray, block: Block, u: np.ndarray, place: dict[str, int]) -> xr.DataArray:
    """Add the elements of a variable that the newest batch does not have."""
    if not block.elementwise:  # labels cannot appear or vanish
        return _labelled(newest.values, newest, block.labels)
    names, flat = block.names(), newest.values.reshape(*newest.shape[:2], -1)
    at = {label: i for i, label in enumerate(element_labels(newest))}
    shared = [i for i, name in enumerate(names) if name in at]
    held = flat[..., [at[names[i]] for i in shared]]
    if len(shared) < len(names):
        natural = natural_scale(block.transform, u[..., [place[name] for name in names]])
        if natural is None or not _same(natural[..., shared], held):
            return _labelled(newest.values, newest, _texts(newest))
    else:
        natural = np.empty((*newest.shape[:2], len(names)))
    natural[..., shared] = held
    return _labelled(natural.reshape(*newest.shape[:2], *block.shape), newest, block.labels)


def _labelled(values: np.ndarray, newest: xr.DataArray, labels: Sequence[Sequence[str]]) -> xr.DataArray:
    """Return values [chain, draw, ...] with the newest batch's dims and the given labels by dim, if any."""
    named = zip(newest.dims[2:], labels, strict=False)
    coords = {str(dim): np.array(texts, dtype=str) for dim, texts in named}
    return xr.DataArray(values, dims=newest.dims, coords=coords, name=newest.name)


def _texts(newest: xr.DataArray) -> list[list[str]]:
    """Return the newest batch's labels as text, by dim."""
    return [[str(label) for label in newest[dim].values] for dim in newest.dims[2:]]


def _same(computed: np.ndarray, held: np.ndarray) -> bool:
    """Whether a transform computes what PyMC's of that name does: a model may define its own."""
    return np.allclose(computed, held, rtol=1e-6, atol=1e-9 * float(np.abs(held).max(initial=0.0)))


def natural_scale(transform: str, u: np.ndarray) -> np.ndarray | None:
    """Take coordinates of single elements to their natural scale.

    Parameters
    ----------
    transform
        The transform with its bounds, as a `Block` states it.
    u
        Array of coordinates.

    Returns
    -------
    numpy.ndarray or None
        None where the transform is not one of PyMC's own, or its bounds are no constants.
    """
    with np.errstate(over="ignore"):  # an overflow is infinite, in PyMC too
        if transform in _BACKWARD:
            return np.asarray(_BACKWARD[transform](u))
        return _in_interval(transform, u)


def _in_interval(transform: str, u: np.ndarray) -> np.ndarray | None:
    """Undo an interval transform."""
    found = _INTERVAL.fullmatch(transform)
    if found is None:
        return None
    try:
        low, high = float(found[1].replace("none", "-inf")), float(found[2].replace("none", "inf"))
    except ValueError:  # bounds that depend on other parameters
        return None
    if np.isfinite([low, high]).all():
        share = expit(u)
        return np.asarray(share * high + (1 - share) * low)
    if np.isfinite(low):
        return np.exp(u) + low
    return high - np.exp(u) if np.isfinite(high) else np.array(u)
