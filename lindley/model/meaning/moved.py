"""Data that a model computes from a batch as a whole, found by comparing it with parts of the batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pytensor.compile.sharedvalue import SharedVariable
from pytensor.graph.basic import Constant
from pytensor.graph.traversal import ancestors
from pytensor.tensor.random.type import RandomType

from lindley.model.graph import ModelGraph

#: Largest relative error of a fit that counts as exact.
_EXACT = 1e-8
#: Sentences at most.
_MOST = 4
#: How categories and times enter whose codes and origin are not fixed.
_CATEGORIES = (
    "as codes that follow the batch's own categories; name the categories with `coords`, or give the model "
    "the full list"
)
_TIMES = "counted from a time of the batch; freeze the origin with `constants`"


def moved_data(
    whole: tuple[np.ndarray, ModelGraph], parts: Sequence[tuple[np.ndarray, ModelGraph]], frame: pd.DataFrame
) -> list[str]:
    """Name the data that mean something else in a part of a batch than in the whole, in sentences.

    Parameters
    ----------
    whole, parts
        Positions of rows, and the model of these rows.
    frame
        The batch's rows.
    """
    rows, graph = whole
    data, found = list(_data(graph)), list[str]()
    for some, part in parts:
        theirs = list(_data(part))
        if len(theirs) != len(data):
            continue
        for (value, where), (other, _) in zip(data, theirs, strict=True):
            text = _moved(value, other, where, frame, some, len(rows))
            if text and text not in found:
                found.append(text)
    return _most_telling(found)


def _most_telling(found: list[str]) -> list[str]:
    """Return some sentences, first those that name a column."""
    return sorted(found, key=lambda text: not text.startswith("column "))[:_MOST]


def _data(graph: ModelGraph) -> Iterator[tuple[np.ndarray, str]]:
    """Yield the numbers of a model, in the graph's order, with the variable that they enter."""
    model = graph.model
    named = [*model.deterministics, *model.free_RVs, *model.potentials, *model.observed_RVs]
    seen = set()
    for variable in named:
        for leaf in ancestors([variable], blockers=[other for other in named if other is not variable]):
            if leaf in seen or not isinstance(leaf, Constant | SharedVariable):
                continue
            seen.add(leaf)
            value: Any = leaf.data if isinstance(leaf, Constant) else leaf.get_value(borrow=True)
            if isinstance(leaf.type, RandomType) or not isinstance(value, np.ndarray | np.generic):
                continue
            if np.asarray(value).dtype.kind in "biuf":
                yield np.asarray(value), str(variable.name)


def _moved(
    value: np.ndarray, other: np.ndarray, where: str, frame: pd.DataFrame, some: np.ndarray, count: int
) -> str:
    """Return how an array differs in a part, in words; empty where it does not."""
    by_row = value.ndim > 0 and value.shape[0] == count and other.shape == (len(some), *value.shape[1:])
    if by_row:
        here = value[some]
        if np.allclose(here, other, rtol=_EXACT, atol=0, equal_nan=True):
            return ""
        return _column(here, other, where, frame.iloc[some]) or (
            f"an array of {' x '.join(map(str, value.shape))} in {where} is computed from all rows; "
            "freeze what it is computed with in `constants` (for splines and HSGP: knots, range, middle)"
        )
    # Lengths and sizes follow the rows without changing what parameters mean.
    if value.shape != other.shape or value.dtype.kind != "f" or np.allclose(value, other, equal_nan=True):
        return ""
    numbers = ", ".join(f"{x:.4g}" for x in value.ravel()[:3])
    return (
        f"a number in {where} is computed from the batch as a whole ({numbers} here, "
        f"{', '.join(f'{x:.4g}' for x in other.ravel()[:3])} in a part of it); freeze it with `constants` "
        "(for HSGP: the middle of the range)"
    )


def _column(here: np.ndarray, other: np.ndarray, where: str, frame: pd.DataFrame) -> str:
    """Name the column that an array is a scaling, or the codes, of."""
    pairs = list(zip(*(array.reshape(len(array), -1).T for array in (here, other)), strict=True))
    for name, column in frame.items():
        numbers = _numbers(column)
        for one, two in pairs:
            if numbers is None:
                if one.dtype.kind in "iub" and _codes(one, column):
                    return f"column {name} enters {where} {_CATEGORIES}"
                continue
            first, second = _affine(one, numbers), _affine(two, numbers)
            if first is not None and second is not None and not np.allclose(first, second, rtol=1e-6):
                times = pd.api.types.is_datetime64_any_dtype(column.dtype)
                return f"column {name} enters {where} {_TIMES if times else _scaling(first, second)}"
    return ""


def _scaling(first: tuple[float, float], second: tuple[float, float]) -> str:
    """Say how a column is scaled, and what to freeze."""
    (slope, shift), (other, _) = first, second
    origin = -shift / slope + 0.0  # no negative zero
    if np.isclose(slope, other, rtol=1e-6):
        return f"minus a number of the batch ({origin:.6g} here); freeze the origin with `constants`"
    return (
        f"centred and scaled by the batch's own numbers ({origin:.6g} and {1 / slope:.6g} here); freeze them "
        "with `constants`"
    )


def _numbers(column: pd.Series) -> np.ndarray | None:
    """Return a column of numbers or times as numbers; None for others, and where values are missing."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        values = (column - column.min()).dt.total_seconds().to_numpy(dtype=float)
    elif pd.api.types.is_numeric_dtype(column.dtype):
        values = column.to_numpy(dtype=float, na_value=np.nan)
    else:
        return None
    return values if np.isfinite(values).all() else None


def _affine(array: np.ndarray, column: np.ndarray) -> tuple[float, float] | None:
    """Return slope and shift where an array is an affine function of a column; None elsewhere."""
    array = np.asarray(array, dtype=float)
    if not np.isfinite(array).all() or np.ptp(array) == 0 or np.ptp(column) == 0:
        return None
    centred = column - column.mean()
    slope = float(centred @ (array - array.mean()) / (centred @ centred))
    shift = float(array.mean() - slope * column.mean())
    scale = np.abs(array).max()
    exact = slope != 0 and np.allclose(slope * column + shift, array, rtol=0, atol=_EXACT * scale)
    return (slope, shift) if exact else None


def _codes(array: np.ndarray, column: pd.Series) -> bool:
    """Whether an array is a one-to-one code of a column of categories."""
    texts = column.astype(str).to_numpy()
    pairs = {(text, int(code)) for text, code in zip(texts, array.tolist(), strict=True)}
    return len(pairs) == len(set(texts)) == len(set(array.tolist())) and len(pairs) > 0
