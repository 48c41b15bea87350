"""Predictions from a registered belief: posterior predictive summaries for new inputs.

Any number of threads may predict at once: what is kept between calls has no state of any of them.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from lindley.errors import BatchRefused, LindleyError, ModelRefused
from lindley.inference.predictive import Prepared, prepare
from lindley.model import graph
from lindley.model.declaration import Declaration
from lindley.report.numbers import QUANTILES
from lindley.serving.inputs import read_inputs
from lindley.serving.labels import labelled
from lindley.serving.rows import Inputs, Numbers, Rows
from lindley.serving.size_classes import Predictive, SizeClasses
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
    """Summarise the posterior predictive distribution at new inputs, once; see `Predictor.predict`."""
    return Predictor(draws, declaration).predict(inputs, seed=seed)


class Predictor:
    """A belief that answers again and again.

    What depends on nothing but the model and the number of rows is made once. Equal arguments give equal
    numbers, to the last bit, whatever was asked before and whatever else the process computes meanwhile.

    Parameters
    ----------
    draws, declaration
        The result of `lindley.serving.draws.serving_draws`, and the chain's declaration.
    like
        A predictor of the same declaration with other draws: what is made once is shared with it.
    """

    def __init__(self, draws: xr.Dataset, declaration: Declaration, like: Predictor | None = None) -> None:
        self.draws, self.declaration = draws, declaration
        self._parameters = draws.drop_dims("context_row", errors="ignore").data_vars
        held = draws.drop_dims("sample").data_vars
        self._context = {str(name).removeprefix(CONTEXT): held[name].values for name in held}
        self._constants = json.loads(draws.attrs.get("constants", "{}"))
        classes: SizeClasses | None = like._classes if like else None
        self._classes: SizeClasses = classes or SizeClasses(declaration, self._built)
        self._shared, self._numbers = like is not None, Numbers(declaration)

    def predict(self, inputs: pd.DataFrame | Rows, *, seed: int = 0) -> pd.DataFrame:
        """Summarise the posterior predictive distribution at new inputs.

        Parameters
        ----------
        inputs
            Rows as in a batch. Observed columns and the row key may be missing; row keys may repeat.
        seed
            Seed of the predictive draws.

        Returns
        -------
        pandas.DataFrame
            Columns variable, row, those of the row key that were given, mean, sd, q05 to q95. A variable with
            one value per row has them in the order of the inputs, and `row` counts the inputs. Any other has
            them in its own order, and no row key.

        Raises
        ------
        BatchRefused
            If the inputs do not fit the schema, or the model cannot predict for them.
        """
        return pd.concat([pd.DataFrame(part) for part in self.columns(inputs, seed=seed)], ignore_index=True)

    def columns(self, inputs: pd.DataFrame | Rows, *, seed: int = 0) -> list[dict[str, Any]]:
        """Return what `predict` does, as columns by name for each observed variable."""
        return self.summaries(self._read(inputs), seed=seed)

    def summaries(self, read: Inputs, *, seed: int = 0) -> list[dict[str, Any]]:
        """Return what `columns` does, for inputs that were read."""
        rows = len(read.order)
        prepared, data, values, size, _ = self._kept(read) or self._made(read)
        try:
            drawn = _drawn(prepared, data, values.arrays, max(rows, size), seed)
        except LindleyError:
            raise
        except Exception as error:  # a distribution refuses its parameters with an error of any type
            what = str(error).strip().splitlines()[0] if str(error) else ""
            raise BatchRefused(
                f"The model of {self.declaration.name} cannot predict for these inputs",
                expected="inputs that give its distributions parameters they admit",
                found=f"{type(error).__name__}: {what}"[:200],
                todo="correct the inputs",
            ) from error
        flat = {name: array.reshape(len(array), -1) for name, array in drawn.items()}
        return [_summary(name, a, read if a.shape[1] == rows else None) for name, a in flat.items()]

    def _kept(self, read: Inputs) -> Predictive | None:
        """Return what a prediction needs without building the inputs' model; None where that cannot be."""
        found = self._classes.of(read)
        if found is None or not self._shared:
            return found
        values = labelled(self._parameters, found.model, self.declaration)
        # Which elements are drawn from the model is part of what was made.
        return None if values.known or found.values.known else found._replace(values=values)

    def _read(self, inputs: pd.DataFrame | Rows) -> Inputs:
        """Check the rows; those of plain numbers quickly."""
        rows = inputs if isinstance(inputs, Rows) else Rows.of(inputs)
        found = None if rows is None else self._numbers.read(rows)
        if found is not None:
            return found
        return read_inputs(inputs.frame if isinstance(inputs, Rows) else inputs, self.declaration)

    def _made(self, read: Inputs) -> Predictive:
        """Return how to draw for the inputs, their data, the parameters, and the number of values."""
        try:
            return self._built(read.frame)
        except ModelRefused as error:
            if not read.without:
                raise
            raise BatchRefused(
                f"The model of {self.declaration.name} could not be built without the row key",
                expected=f"values of {', '.join(read.without)}, if the model uses them",
                found=error.found,
                todo="add the columns to the inputs",
            ) from error

    def _built(self, frame: pd.DataFrame) -> Predictive:
        """Build the model of a frame; see `_made`."""
        context = pd.DataFrame(self._context) if self._context else None
        model = graph.build(self.declaration, frame, context=context, constants=self._constants)
        values = labelled(self._parameters, model, self.declaration)
        given = [rv for rv in model.free_RVs if rv.name in values.arrays]
        prepared, data = prepare(list(model.observed_RVs), given, known=values.known)
        return Predictive(prepared, data, values, observed_size(model), model)


def _drawn(
    prepared: Prepared, data: list[np.ndarray], values: dict[str, np.ndarray], size: int, seed: int
) -> dict[str, np.ndarray]:
    """Draw the observed variables [sample, ...], with fewer draws for many rows."""
    count = len(next(iter(values.values())))
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
    for block in prepared.blocks(chosen, data, rng=np.random.default_rng(seed), strict=True):
        length = len(next(iter(block.values())))
        if length == len(keep):  # all draws in one part
            return block
        for name, array in block.items():
            if name not in found:
                found[name] = np.empty((len(keep), *array.shape[1:]), array.dtype)
            found[name][start : start + length] = array
        start += length
    return found


def _summary(name: str, drawn: np.ndarray, read: Inputs | None) -> dict[str, Any]:
    """Summarise draws [sample, value] of one observed variable, some values at a time.

    With `read`, each value is that of a row: they take the order of the inputs, and the row keys.
    """
    rows = []
    for start in range(0, drawn.shape[1], _BLOCK):
        block = np.ascontiguousarray(drawn[:, start : start + _BLOCK].T, dtype=float)
        moments = [block.mean(axis=1), block.std(axis=1, ddof=1)]
        rows.append(np.array([*moments, *_quantiles(block)]))
    found = np.concatenate(rows, axis=1)
    columns: dict[str, Any] = {"variable": name, "row": np.arange(drawn.shape[1])}
    if read is not None:
        place = np.empty(len(read.order), int)
        place[read.order] = np.arange(len(read.order))
        found = found[:, place]
        taken = {*columns, "mean", "sd", *QUANTILES}
        columns |= {f"key_{key}" if key in taken else key: values for key, values in read.keys.items()}
    return columns | dict(zip(("mean", "sd", *QUANTILES), found, strict=True))


def _quantiles(block: np.ndarray) -> list[np.ndarray]:
    """Return the quantiles of each row by linear interpolation, as `numpy.quantile` does, but sooner."""
    block.sort(axis=1)
    last = block.shape[1] - 1
    found = []
    for level in QUANTILES.values():
        place = last * level
        low = int(place)
        share = place - low
        below, above = block[:, low], block[:, min(low + 1, last)]
        gap = above - below
        value = below + gap * share if share < 0.5 else above - gap * (1 - share)
        found.append(np.where(np.isnan(block[:, -1]), np.nan, value))  # missing values are sorted last
    return found
