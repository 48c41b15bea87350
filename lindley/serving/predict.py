"""Predictions from a registered belief: posterior predictive summaries for new inputs.

Any number of threads may predict at once: nothing is kept between calls but machine code without state.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from lindley.errors import BatchRefused, LindleyError, ModelRefused
from lindley.inference.predictive import predictive_blocks
from lindley.model import graph
from lindley.model.declaration import Declaration
from lindley.report.numbers import QUANTILES
from lindley.serving.inputs import Inputs, read_inputs
from lindley.target.quantities import observed_size

#: Draws that a registered belief carries for predictions.
SERVING_DRAWS = 1000
#: Numbers that a request draws at most, all rows together: 256 MB. Above 33,554 values each has fewer draws
#: than `SERVING_DRAWS`; above `MOST_VALUES` it would have fewer than 100, too few for its quantiles.
_MOST_DRAWN = 2**25
MOST_VALUES = _MOST_DRAWN // 100
#: Values that are summarised at a time.
_BLOCK = 2**12
#: Prefix of the variables that hold context rows.
CONTEXT = "context:"


def predict(
    draws: xr.Dataset, declaration: Declaration, inputs: pd.DataFrame, *, seed: int = 0
) -> pd.DataFrame:
    """Summarise the posterior predictive distribution at new inputs.

    Equal arguments give equal numbers, to the last bit, whatever else the process computes meanwhile.

    Parameters
    ----------
    draws, declaration
        The result of `lindley.serving.draws.serving_draws`, and the chain's declaration.
    inputs
        Rows as in a batch. Observed columns and the row key may be missing; row keys may repeat.
    seed
        Seed of the predictive draws.

    Returns
    -------
    pandas.DataFrame
        Columns variable, row, those of the row key that were given, mean, sd, q05 to q95. A variable with one
        value per row has them in the order of the inputs, and `row` counts the inputs. Any other has them in
        its own order, and no row key.

    Raises
    ------
    BatchRefused
        If the inputs do not fit the schema, or the model cannot predict for them.
    """
    read = read_inputs(inputs, declaration)
    model = _model(draws, declaration, read)
    parameters = draws.drop_dims("context_row", errors="ignore").data_vars
    values = {str(name): _labelled(parameters[name], model, declaration) for name in parameters}
    try:
        drawn = _drawn(model, values, len(inputs), seed)
    except LindleyError:
        raise
    except Exception as error:  # a distribution refuses its parameters with an error of any type
        raise BatchRefused(
            f"The model of {declaration.name} cannot predict for these inputs",
            expected="inputs that give its distributions parameters they admit",
            found=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[:200],
            todo="correct the inputs",
        ) from error
    parts = []
    for name, array in drawn.items():
        table = _summary(name, array.reshape(len(array), -1))
        table = _in_order(table, read) if len(table) == len(inputs) else table
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _model(draws: xr.Dataset, declaration: Declaration, read: Inputs) -> Any:
    """Build the model of the inputs.

    Raises
    ------
    BatchRefused
        If it needs columns of the row key that were not given.
    """
    held = draws.drop_dims("sample").data_vars
    context = pd.DataFrame({str(name).removeprefix(CONTEXT): held[name].values for name in held})
    try:
        return graph.build(
            declaration,
            read.frame,
            context=context if held else None,
            constants=json.loads(draws.attrs.get("constants", "{}")),
        )
    except ModelRefused as error:
        if not read.without:
            raise
        raise BatchRefused(
            f"The model of {declaration.name} could not be built without the row key",
            expected=f"values of {', '.join(read.without)}, if the model uses them",
            found=error.found,
            todo="add the columns to the inputs",
        ) from error


def _drawn(model: Any, values: dict[str, np.ndarray], rows: int, seed: int) -> dict[str, np.ndarray]:
    """Draw the observed variables [sample, ...], with fewer draws for many rows."""
    count = len(next(iter(values.values())))
    size = max(rows, observed_size(model))
    if size > MOST_VALUES:
        raise BatchRefused(
            "There are too many rows for one prediction",
            expected=f"at most {MOST_VALUES:,} predicted values",
            found=f"{size:,}",
            todo="predict for some of the rows at a time",
        )
    keep = np.linspace(0, count - 1, min(count, _MOST_DRAWN // size)).astype(int)
    chosen = {name: array[keep] for name, array in values.items()}
    found: dict[str, np.ndarray] = {}
    start = 0
    for block in predictive_blocks(model, chosen, rng=np.random.default_rng(seed), strict=True):
        for name, array in block.items():
            if name not in found:
                found[name] = np.empty((len(keep), *array.shape[1:]), array.dtype)
            found[name][start : start + len(array)] = array
        start += len(next(iter(block.values())))
    return found


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


def _in_order(table: pd.DataFrame, read: Inputs) -> pd.DataFrame:
    """Return one variable's summary in the order of the inputs, with their row keys as they were given."""
    place = np.empty(len(read.order), int)
    place[read.order] = np.arange(len(read.order))
    table = table.take(place).assign(row=np.arange(len(table))).reset_index(drop=True)
    for at, name in enumerate(read.keys.columns, start=2):
        own = f"key_{name}" if name in table.columns else name
        table.insert(at, own, read.keys[name].array)
    return table


def _summary(name: str, drawn: np.ndarray) -> pd.DataFrame:
    """Summarise draws [sample, value] of one observed variable, some values at a time."""
    rows = []
    for start in range(0, drawn.shape[1], _BLOCK):
        block = np.ascontiguousarray(drawn[:, start : start + _BLOCK].T, dtype=float)
        moments = [block.mean(axis=1), block.std(axis=1, ddof=1)]
        rows.append(np.array([*moments, *np.quantile(block, list(QUANTILES.values()), axis=1)]))
    columns = dict(zip(("mean", "sd", *QUANTILES), np.concatenate(rows, axis=1), strict=True))
    return pd.DataFrame({"variable": name, "row": np.arange(drawn.shape[1])} | columns)
