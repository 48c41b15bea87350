"""Convert between Arrow tables and pandas frames: frames have plain numpy dtypes, tables lose nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lindley.batch.casting import cast_column
from lindley.batch.digest import family
from lindley.errors import BatchRefused


def table_from_frame(frame: pd.DataFrame) -> pa.Table:
    """Return the frame's columns as an Arrow table without schema metadata; the index is left out.

    NaN in a numpy float column becomes null, as in pandas' own CSV and Parquet writers.

    Raises
    ------
    BatchRefused
        If a column's name is not text or occurs twice, or its values have no common type.
    """
    names = list(frame.columns)
    if not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise BatchRefused(
            "The frame has column names that a batch cannot have",
            expected="text, each name once",
            found=", ".join(map(repr, names))[:200],
            todo="rename the columns",
        )
    return pa.table({name: _array(name, frame[name]) for name in names})


def _array(name: str, series: pd.Series) -> pa.Array | pa.ChunkedArray:
    try:
        if isinstance(series.dtype, pd.DatetimeTZDtype):
            # Not pa.array(series): pyarrow 25 then calls a method that pandas 3.1 deprecates.
            naive = pa.array(series.dt.tz_convert(None).to_numpy(), from_pandas=True)
            return naive.cast(pa.timestamp(naive.type.unit, pa.lib.tzinfo_to_string(series.dtype.tz)))
        return pa.array(series, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        raise BatchRefused(
            f"Column {name!r} of the frame cannot be part of a batch",
            expected="values of one flat type",
            found=f"dtype {series.dtype}: {error}"[:200],
            todo="give the column one dtype",
        ) from error


def frame_from_table(table: pa.Table) -> pd.DataFrame:
    """Return a new frame of plain numpy dtypes.

    Integers become int64 (uint64 above its range, float64 with NaN when there are nulls), floats and
    decimals float64, booleans bool (object with None when there are nulls), text, bytes and times of
    day object, dates datetime64[s], timestamps and durations datetime64 and timedelta64 of their
    unit; timestamps with a zone keep it. Null and NaN are both NaN or NaT here.
    """
    return pd.DataFrame({name: _plain(name, table.column(name)) for name in table.column_names}, copy=True)


def _plain(name: str, column: pa.ChunkedArray) -> Any:
    """Return values for pandas and PyMC, without extension dtypes."""
    kind, gaps = family(column.type), column.null_count > 0
    if kind == "timestamptz":
        return column.to_pandas()
    if kind in ("string", "binary", "time") or (kind == "bool" and gaps):
        values = np.empty(len(column), dtype=object)
        values[:] = column.to_pylist()
        return pd.Series(values, dtype=object)
    if kind == "int" and not gaps:
        wide = pa.types.is_uint64(column.type) and (pc.max(column).as_py() or 0) >= 2**63
        column = column if wide else column.cast(pa.int64())
    elif kind in ("int", "float", "null"):
        column = column.cast(pa.float64(), safe=False)
    elif kind == "decimal":
        column = cast_column(name, column, pa.float64())
    elif kind == "date":
        column = column.cast(pa.date32()).cast(pa.timestamp("s"))
    return column.to_numpy()
