"""Predictions from a registered belief: posterior predictive summaries for new inputs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr

from lindley.batch.batch import as_schema, batch_from_frame
from lindley.batch.digest import family
from lindley.batch.schema import Column
from lindley.errors import BatchRefused
from lindley.inference.predictive import predictive_draws
from lindley.model import graph
from lindley.model.coordinates import Coordinates
from lindley.model.declaration import Declaration
from lindley.model.natural_scale import carried_arrays
from lindley.report.numbers import QUANTILES

#: Draws that a registered belief carries for predictions.
SERVING_DRAWS = 1000
#: Prefix of the variables that hold context rows.
_CONTEXT = "context:"
_INSTANT = ("datetime", pd.Timestamp(0))
#: MLflow's type and a neutral value of a column, by the family of its declared type; None: undeclared.
_SERVED: dict[str | None, tuple[str, Any]] = {
    None: ("double", 0.5), "int": ("long", 0), "float": ("double", 0.5), "decimal": ("double", 0.5),
    "bool": ("boolean", False), "string": ("string", ""), "binary": ("string", b""), "date": _INSTANT,
    "timestamp": _INSTANT, "timestamptz": _INSTANT, "time": _INSTANT, "duration": _INSTANT,
}  # fmt: skip


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
        chosen |= {f"{_CONTEXT}{name}": ("context_row", rows.to_numpy()) for name, rows in context.items()}
    return xr.Dataset(chosen, coords=labels, attrs={"constants": json.dumps(constants or {})})


def predict(
    draws: xr.Dataset, declaration: Declaration, inputs: pd.DataFrame, *, seed: int = 0
) -> pd.DataFrame:
    """Summarise the posterior predictive distribution at new inputs.

    Parameters
    ----------
    draws, declaration
        The result of `serving_draws`, and the chain's declaration.
    inputs
        Rows as in a batch; the observed columns may be missing.
    seed
        Seed of the predictive draws.

    Returns
    -------
    pandas.DataFrame
        Columns variable, row (position in the model's observed variable), mean, sd, q05 to q95.

    Raises
    ------
    BatchRefused
        If the inputs do not fit the schema.
    """
    batch = batch_from_frame(with_outcomes(inputs, declaration), declaration, origin="inputs")
    held = draws.drop_dims("sample").data_vars
    context = pd.DataFrame({str(name).removeprefix(_CONTEXT): held[name].values for name in held})
    model = graph.build(
        declaration,
        batch.frame(),
        context=context if held else None,
        constants=json.loads(draws.attrs.get("constants", "{}")),
    )
    parameters = draws.drop_dims("context_row", errors="ignore").data_vars
    values = {str(name): _labelled(parameters[name], model, declaration) for name in parameters}
    predicted = predictive_draws(model, values, rng=np.random.default_rng(seed))
    return pd.concat([_summary(name, value) for name, value in predicted.items()], ignore_index=True)


def _labelled(array: xr.DataArray, model: Any, declaration: Declaration) -> np.ndarray:
    """Return draws [sample, ...] of the labels of the inputs' model, in its order.

    Raises
    ------
    BatchRefused
        If the draws lack a label.
    """
    for dim in array.dims[1:]:
        wanted = model.coords.get(dim)
        if wanted is None or dim not in array.coords:
            continue
        held = [str(label) for label in array[dim].values]
        unknown = [str(label) for label in wanted if str(label) not in held]
        if unknown:
            raise BatchRefused(
                f"The inputs have labels of {dim} that the belief of {declaration.name} has no draws for",
                expected=f"some of {', '.join(held[:20])}",
                found=", ".join(unknown[:5]),
                todo="predict for labels of the belief, or update the chain with a batch of the others",
            )
        array = array.isel({dim: [held.index(str(label)) for label in wanted]})
    return np.asarray(array.values)


def with_outcomes(inputs: pd.DataFrame, declaration: Declaration, *, every: bool = False) -> pd.DataFrame:
    """Fill in missing observed columns; their values have no effect on a prediction.

    With `every`, all missing columns are filled in: enough to inspect the model, not to fit it.
    """
    neutral = {column.name: _served(column)[1] for column in _declared(declaration)}
    names = neutral if every else declaration.observed
    missing = [name for name in names if name not in inputs.columns]
    unknown = [name for name in missing if name not in neutral]
    if unknown:
        raise BatchRefused(
            "The inputs of a prediction were refused",
            expected=f"values of {', '.join(unknown)}, which the schema gives no type",
            found="no such column",
            todo="add the column, or declare it in the schema",
        )
    return inputs.assign(**{name: value for name, value in neutral.items() if name in missing})


def input_columns(declaration: Declaration) -> list[tuple[str, str, bool]]:
    """Return (name, MLflow type name, required) of each input column of a prediction."""
    return [(c.name, _served(c)[0], c.name not in declaration.observed) for c in _declared(declaration)]


def _served(column: Column) -> tuple[str, Any]:
    """Return MLflow's type and a neutral value of a declared column."""
    return _SERVED[None if column.type is None else family(column.type)]


def _declared(declaration: Declaration) -> tuple[Column, ...]:
    """Return all declared columns, whichever the input has."""
    schema = declaration.schema
    if isinstance(schema, pa.Schema):
        names = list(schema.names)
    else:
        names = list((schema.to_schema() if hasattr(schema, "to_schema") else schema).columns)
    return as_schema(declaration.schema).columns(names)


def _summary(name: str, values: np.ndarray) -> pd.DataFrame:
    """Summarise draws [sample, ...] of one observed variable."""
    flat = values.reshape(len(values), -1).astype(float)
    frame = {"variable": name, "row": np.arange(flat.shape[1])}
    frame |= {"mean": flat.mean(axis=0), "sd": flat.std(axis=0, ddof=1)}
    return pd.DataFrame(frame | {key: np.quantile(flat, q, axis=0) for key, q in QUANTILES.items()})
