"""Scalar parameters of a trace: their labels, their draws, and the choice of those to show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import xarray as xr

#: Dims of a sample; all others are a variable's own.
SAMPLE_DIMS = ("chain", "draw")
#: A number larger than this cannot be drawn together with others without overflow; it counts as not finite.
DRAWABLE = 1e100


class Scalar(NamedTuple):
    """One element of a variable: its label, as in a summary, its variable, its place in the own dims."""

    label: str
    variable: str
    position: int


def group(trace: xr.DataTree, name: str) -> xr.Dataset:
    """Return a group of a trace as a dataset, empty if the trace has none of that name."""
    return trace[name].to_dataset() if name in trace.children else xr.Dataset()


def is_sample(array: xr.DataArray) -> bool:
    """Return whether a variable has chains and draws."""
    return set(SAMPLE_DIMS) <= set(array.dims)


def axis_labels(array: xr.DataArray, dim: str) -> list[str]:
    """Return the labels along a dim, positions where it has no coordinate; dates without midnight."""
    values = array[dim].to_numpy()
    if np.issubdtype(values.dtype, np.datetime64):
        days = values.astype("datetime64[D]")
        values = days if (days == values).all() else values.astype("datetime64[s]")
    return [str(value) for value in values.tolist()]


def scalars(dataset: xr.Dataset) -> Iterator[Scalar]:
    """Yield the scalar parameters of a posterior in its own order, those of a sample only."""
    for name, array in dataset.data_vars.items():
        if not is_sample(array) or not np.issubdtype(array.dtype, np.number):
            continue
        labels = [axis_labels(array, str(dim)) for dim in array.dims if dim not in SAMPLE_DIMS]
        for position, index in enumerate(product(*labels)):
            yield Scalar(f"{name}[{', '.join(index)}]" if labels else str(name), str(name), position)


def choose(
    dataset: xr.Dataset, parameters: Sequence[str] | None, most: int
) -> tuple[list[Scalar], int, list[str]]:
    """Choose at most `most` scalar parameters of a posterior.

    Parameters
    ----------
    dataset
        Posterior[chain, draw, ...].
    parameters
        Names of variables or labels of elements; None for all.
    most
        Number of parameters at most. When there are more, small variables go before large ones.

    Returns
    -------
    chosen : list of Scalar
        In the order of the posterior.
    total : int
        Number of parameters to choose from.
    unknown : list of str
        Names asked for that the posterior does not have.
    """
    found = list(scalars(dataset))
    if parameters is None:
        unknown = []
    else:
        wanted = {str(name) for name in parameters}
        found = [scalar for scalar in found if wanted & {scalar.label, scalar.variable}]
        unknown = sorted(wanted.difference(*((scalar.label, scalar.variable) for scalar in found)))
    by_size = sorted(range(len(found)), key=lambda i: dataset[found[i].variable].size)
    return [found[i] for i in sorted(by_size[:most])], len(found), unknown


def draws(dataset: xr.Dataset, scalar: Scalar) -> np.ndarray:
    """Return the draws of a scalar parameter.

    Returns
    -------
    numpy.ndarray
        Float64[chain, draw]; NaN where a draw is not finite or too large to be drawn.
    """
    values = dataset[scalar.variable].transpose(*SAMPLE_DIMS, ...).to_numpy()
    return drawable(values.reshape(*values.shape[:2], -1)[:, :, scalar.position])


def drawable(values: np.ndarray) -> np.ndarray:
    """Return a float copy with NaN in place of values that are not finite or too large to be drawn."""
    values = np.array(values, dtype=float)
    values[~(np.abs(values) <= DRAWABLE)] = np.nan
    return values


def finite(values: np.ndarray) -> np.ndarray:
    """Return the finite values, flat."""
    return values[np.isfinite(values)]


def is_flat(values: np.ndarray) -> bool:
    """Return whether finite values are too close to each other to be distinguished in a figure."""
    spread, scale = float(np.ptp(values)), float(np.max(np.abs(values)))
    return spread <= 1e-12 * scale or spread < 1e-100  # a smaller one has a variance of zero
