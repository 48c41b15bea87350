"""Predictions from a registered belief: posterior predictive summaries for new inputs."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr

from lindley.batch.batch import batch_from_frame
from lindley.batch.declared_schema import as_schema
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


def serving_draws(
    tree: xr.DataTree,
    declaration: Declaration,
    coordinates: Coordinates,
    *,
    constants: dict[str, float] | None = None,
    context: pd.DataFrame | None = None,
) -> xr.Dataset:
    """Select what predictions need: draws of carried variables, with state as it passes on.

    Parameters
    ----------
    tree
        The link's trace.
    declaration, coordinates
        The chain's declaration, and the coordinates of the link's belief.
    constants
        Frozen constants of preprocessing.
    context
        The last rows so far, for a model that conditions on rows before its own.

    Returns
    -------
    xarray.Dataset
        Variables [sample, ...] with all labels that the belief knows (see `lindley.model.natural_scale`),
        `SERVING_DRAWS` draws at most, evenly spaced over all chains; constants as an attribute, context as
        variables [context_row].
    """
    chosen: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    # One dim has the same labels for all variables: those that are known of each.
    for array in xr.align(*carried_arrays(tree, coordinates, declaration.carry).values(), join="inner"):
        flat = array.values.reshape(-1, *array.shape[2:])
        keep = np.linspace(0, len(flat) - 1, min(SERVING_DRAWS, len(flat))).astype(int)
        chosen[str(array.name)] = (("sample", *map(str, array.dims[2:])), flat[keep])
        labels |= {str(dim): array[dim].values.astype(str) for dim in array.dims[2:] if dim in array.coords}
    if context is not None:
        for column in context.columns:
            chosen[f"{_CONTEXT}{column}"] = ("context_row", context[column].to_numpy())
    return xr.Dataset(chosen, coords=labels, attrs={"constants": json.dumps(constants or {})})


def predict(
    draws: xr.Dataset, declaration: Declaration, inputs: pd.DataFrame, *, seed: int = 0
) -> pd.DataFrame:
    """Summarise the posterior predictive distribution at new inputs.

    Parameters
    ----------
    draws
        What `serving_draws` selected.
    declaration
        The chain's declaration.
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
    held = {str(name)[len(_CONTEXT) :]: draws[name].values for name in draws.data_vars
            if str(name).startswith(_CONTEXT)}  # fmt: skip
    model = graph.build(
        declaration,
        batch.frame(),
        context=pd.DataFrame(held) if held else None,
        constants=json.loads(draws.attrs.get("constants", "{}")),
    )
    values = {
        str(name): _labelled(draws[name], model, declaration)
        for name in draws.data_vars
        if not str(name).startswith(_CONTEXT)
    }
    predicted = predictive_draws(model, values, rng=np.random.default_rng(seed))
    return pd.concat([_summary(name, value) for name, value in predicted.items()], ignore_index=True)


def _labelled(array: xr.DataArray, model: Any, declaration: Declaration) -> np.ndarray:
    """Return draws [sample, ...] of the labels that the model of the inputs has, in its order.

    Raises
    ------
    BatchRefused
        If it has a label that the draws do not have.
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
                todo="predict for labels that it has, or update the chain with a batch of the others",
            )
        array = array.isel({dim: [held.index(str(label)) for label in wanted]})
    return np.asarray(array.values)


def with_outcomes(inputs: pd.DataFrame, declaration: Declaration, *, every: bool = False) -> pd.DataFrame:
    """Fill in observed columns that are missing; their values do not matter to a prediction.

    With `every`, all missing columns are filled in: enough to look at the model, not to fit it.
    """
    frame = inputs.copy()
    names = [column.name for column in _declared(declaration)] if every else declaration.observed
    missing = [name for name in names if name not in frame.columns]
    for column in _declared(declaration):
        if column.name in missing:
            frame[column.name] = _neutral(column.type)
    unknown = [name for name in missing if name not in frame.columns]
    if unknown:
        raise BatchRefused(
            "The inputs of a prediction were refused",
            expected=f"values of {', '.join(unknown)}, which the schema gives no type",
            found="no such column",
            todo="add the column, or declare it in the schema",
        )
    return frame


def input_columns(declaration: Declaration) -> list[tuple[str, str, bool]]:
    """Return (name, MLflow type name, required) of each input column of a prediction."""
    return [(c.name, _type_name(c.type), c.name not in declaration.observed) for c in _declared(declaration)]


def _declared(declaration: Declaration) -> tuple[Column, ...]:
    """Return the declared columns, whatever columns an input has."""
    schema = declaration.schema
    if isinstance(schema, pa.Schema):
        names = list(schema.names)
    else:
        names = list((schema.to_schema() if hasattr(schema, "to_schema") else schema).columns)
    return as_schema(declaration.schema).columns(names)


def _neutral(kind: pa.DataType | None) -> Any:
    if kind is None:
        return 0.5
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return ""
    if pa.types.is_temporal(kind):
        return pd.Timestamp(0)
    if pa.types.is_boolean(kind):
        return False
    return 0 if pa.types.is_integer(kind) else 0.5


def _type_name(kind: pa.DataType | None) -> str:
    if kind is None:
        return "double"
    if pa.types.is_integer(kind):
        return "long"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "double"
    if pa.types.is_boolean(kind):
        return "boolean"
    return "datetime" if pa.types.is_temporal(kind) else "string"


def _summary(name: str, values: np.ndarray) -> pd.DataFrame:
    """Summarise draws [sample, ...] of one observed variable."""
    flat = values.reshape(len(values), -1).astype(float)
    frame = {"variable": name, "row": np.arange(flat.shape[1])}
    frame |= {"mean": flat.mean(axis=0), "sd": flat.std(axis=0, ddof=1)}
    return pd.DataFrame(frame | {key: np.quantile(flat, q, axis=0) for key, q in QUANTILES.items()})
