"""Predictions from a registered belief: posterior predictive summaries for new inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import xarray as xr

from lindley import model_graph
from lindley.batch import batch_from_frame
from lindley.declaration import Declaration
from lindley.declared_schema import as_schema
from lindley.errors import BatchRefused
from lindley.predictive import predictive_draws
from lindley.schema import Column

#: Draws that a registered belief carries for predictions.
SERVING_DRAWS = 1000
QUANTILES = {"q05": 0.05, "q25": 0.25, "q50": 0.5, "q75": 0.75, "q95": 0.95}


def serving_draws(tree: xr.DataTree, declaration: Declaration, carried: tuple[str, ...]) -> xr.Dataset:
    """Select the draws that predictions need: carried variables, with state as it passes on.

    Returns
    -------
    xarray.Dataset
        Variables [sample, ...]; `SERVING_DRAWS` of them at most, evenly spaced over all chains.
    """
    posterior = tree["posterior"].dataset
    chosen = {}
    for name in carried:
        values = posterior[declaration.carry.get(name, name)].values
        flat = values.reshape(-1, *values.shape[2:])
        keep = np.linspace(0, len(flat) - 1, min(SERVING_DRAWS, len(flat))).astype(int)
        dims = tuple(f"{name}_dim_{i}" for i in range(flat.ndim - 1))
        chosen[name] = (("sample", *dims), flat[keep])
    return xr.Dataset(chosen)


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
    model = model_graph.build(declaration, batch.frame())
    values = {str(name): draws[name].values for name in draws.data_vars}
    predicted = predictive_draws(model, values, rng=np.random.default_rng(seed))
    return pd.concat([_summary(name, value) for name, value in predicted.items()], ignore_index=True)


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
