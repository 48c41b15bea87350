"""The draws that a registered belief predicts with, selected from a link's trace."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from lindley.model.coordinates import Coordinates
from lindley.model.declaration import Declaration
from lindley.model.natural_scale import carried_arrays
from lindley.serving.predict import CONTEXT, SERVING_DRAWS


def serving_draws(
    tree: xr.DataTree,
    declaration: Declaration,
    coordinates: Coordinates,
    *,
    constants: dict[str, float] | None = None,
    context: pd.DataFrame | None = None,
) -> xr.Dataset:
    """Select the draws for predictions: those of carried variables, with state carried forward.

    Parameters
    ----------
    tree
        The link's trace.
    declaration, coordinates
        The chain's declaration, and the coordinates of the link's belief.
    constants
        Frozen constants of preprocessing.
    context
        The newest rows, for a model that conditions on rows before its own.

    Returns
    -------
    xarray.Dataset
        Variables [sample, ...] with all labels of the belief (see `lindley.model.natural_scale`), at most
        `SERVING_DRAWS` draws, evenly spaced over all chains; constants as an attribute, context as variables
        [context_row].
    """
    chosen: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    # A dim has the same labels for all variables: those that all of them have.
    for array in xr.align(*carried_arrays(tree, coordinates, declaration.carry).values(), join="inner"):
        flat = array.values.reshape(-1, *array.shape[2:])
        keep = np.linspace(0, len(flat) - 1, min(SERVING_DRAWS, len(flat))).astype(int)
        chosen[str(array.name)] = (("sample", *map(str, array.dims[2:])), flat[keep])
        labels |= {str(dim): array[dim].values.astype(str) for dim in array.dims[2:] if dim in array.coords}
    if context is not None:
        chosen |= {f"{CONTEXT}{name}": ("context_row", rows.to_numpy()) for name, rows in context.items()}
    return xr.Dataset(chosen, coords=labels, attrs={"constants": json.dumps(constants or {})})
