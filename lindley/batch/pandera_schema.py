"""A declared pandera schema, behind the protocol of `lindley.batch.schema`.

A module of its own, because pandera takes a second to import.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pandera.errors
import pandera.pandas as pandera
import pyarrow as pa
from pandera.engines import pandas_engine

from lindley.batch.frames import table_from_frame
from lindley.batch.schema import (
    Column,
    cast_table,
    check_names,
    check_nulls,
    check_type,
    missing_rows,
    plain_type,
)
from lindley.errors import BatchRefused, DeclarationRefused
from lindley.report.text import counted


class PanderaSchema:
    """A declared pandera `DataFrameSchema`.

    Columns of a declared type are cast to it without loss before pandera sees them, so that pandera's own
    coercion loses nothing. Parsers and defaults run, and their result is the batch. NaN and null are the
    same in a pandas frame, so a batch under a pandera schema contains nulls only. A column without a dtype
    keeps the type of the input. Extra columns are refused, unless the schema has ``strict="filter"``.

    Parameters
    ----------
    schema
        A `pandera.pandas.DataFrameSchema`, or a subclass of its `DataFrameModel`.
    """

    def __init__(self, schema: Any) -> None:
        if isinstance(schema, type) and issubclass(schema, pandera.DataFrameModel):
            schema = schema.to_schema()  # type: ignore[attr-defined]
        if not isinstance(schema, pandera.DataFrameSchema):
            raise DeclarationRefused(
                "The declared schema was refused",
                expected="a pandera schema for pandas: pandera.pandas.DataFrameSchema or DataFrameModel",
                found=f"{type(schema).__module__}.{type(schema).__qualname__}",
                todo="import it from pandera.pandas",
            )
        if schema.index is not None or not schema.columns:
            raise DeclarationRefused(
                "The declared schema was refused",
                expected="at least one column and no index: a batch has columns only",
                found="an index" if schema.index is not None else "no column",
                todo="declare index levels as columns",
            )
        self._schema = schema
        self._types = {
            name: None if column.dtype is None else _arrow_type(name, column.dtype)
            for name, column in schema.columns.items()
        }

    def columns(self, found: Sequence[str]) -> tuple[Column, ...]:
        """Return the declared columns; a regex column stands for every name it matches.

        See `lindley.batch.schema.BatchSchema`.
        """
        columns: dict[str, Column] = {}
        required: list[str] = []
        for name, declared in self._schema.columns.items():
            if declared.regex:
                names = sorted(each for each in set(found) if re.match(name, each))
            else:
                names = [name] if name in found else []
            if declared.required and not (self._schema.add_missing_columns and not names):
                required.extend(names or [name])
            for each in names:
                columns.setdefault(each, Column(each, self._types[name], bool(declared.nullable)))
        keeps_extras = self._schema.strict == "filter"
        check_names(found, required=required, allowed=list(found) if keeps_extras else list(columns))
        return tuple(columns.values())

    def declares(self, name: str) -> bool:
        """Return whether a column of this name is declared, also by a regular expression."""
        columns = self._schema.columns
        return name in columns or any(c.regex and re.match(n, name) for n, c in columns.items())

    def conform(self, table: pa.Table) -> pa.Table:
        """Return the table cast and validated by pandera; see `lindley.batch.schema.BatchSchema`."""
        columns = self.columns(table.column_names)
        table = cast_table(table, columns)
        if not self._fills_gaps():
            check_nulls(table, columns)
        frame = pd.DataFrame({c.name: self._series(c.name, table.column(c.name)) for c in columns})
        validated = self._validate(frame)
        names = [str(name) for name in validated.columns]
        return cast_table(table_from_frame(validated), self.columns(names))

    def _fills_gaps(self) -> bool:
        parts = (self._schema, *self._schema.columns.values())
        return any(part.parsers or getattr(part, "default", None) is not None for part in parts)

    def _declared(self, name: str) -> Any:
        """Return the pandera column that governs the input's column `name`."""
        if name in self._schema.columns:
            return self._schema.columns[name]
        matches = (c for n, c in self._schema.columns.items() if c.regex and re.match(n, name))
        return next(matches)

    def _series(self, name: str, values: pa.ChunkedArray) -> pd.Series:
        """Return the column as a series of the dtype that pandera expects."""
        dtype = self._declared(name).dtype
        if dtype is None:
            return values.to_pandas()
        kind = dtype.type
        if isinstance(kind, pd.CategoricalDtype) and kind.categories is not None:
            unknown = set(values.drop_null().unique().to_pylist()) - set(kind.categories)
            if unknown:
                raise BatchRefused(
                    f"Column {name!r} contains categories that the schema does not declare",
                    expected=", ".join(map(repr, kind.categories))[:200],
                    found=", ".join(sorted(map(repr, unknown)))[:200],
                    todo="correct the values, or add the categories to the schema",
                )
        if hasattr(kind, "__from_arrow__") and not isinstance(kind, pd.CategoricalDtype):
            return pd.Series(kind.__from_arrow__(values))
        series = values.to_pandas()
        # A series with missing values cannot have an integer or boolean dtype; pandera reports it.
        impossible = missing_rows(values) and not isinstance(kind, pd.CategoricalDtype)
        if series.dtype == kind or impossible:
            return series
        return series.astype(kind)

    def _validate(self, frame: pd.DataFrame) -> pd.DataFrame:
        try:
            return self._schema.validate(frame, lazy=True)
        except pandera.errors.SchemaErrors as error:
            raise BatchRefused(
                "The values do not satisfy the declared schema",
                expected="every check of the schema to pass",
                found=_describe(error.failure_cases),
                todo="correct these values in the file, or the checks in the declaration",
            ) from error
        except Exception as error:
            # Parsers are the user's code: any error of theirs refuses the batch and does not end the process.
            raise BatchRefused(
                "The declared schema could not be applied",
                expected="pandera's parsers and checks to run",
                found=f"{type(error).__name__}: {str(error)[:200]}",
                todo="run schema.validate(frame) on the data and correct what it reports",
            ) from error


def _arrow_type(name: str, dtype: Any) -> pa.DataType | None:
    """Return the Arrow type of a pandera dtype; None when the dtype leaves it open."""
    kind = dtype.type
    if isinstance(dtype, pandas_engine.Date):
        return pa.date32()
    if isinstance(dtype, pandas_engine.Decimal):
        return pa.decimal128(dtype.precision, dtype.scale)
    if isinstance(kind, pd.CategoricalDtype):
        return None if kind.categories is None else plain_type(pa.array(kind.categories).type)
    if isinstance(kind, np.dtype) and kind == np.dtype(object):
        return None
    try:
        empty = pd.DataFrame({name: pd.Series([], dtype=kind)})
        return plain_type(check_type(name, table_from_frame(empty).schema.field(name).type))
    except (BatchRefused, TypeError) as error:
        raise DeclarationRefused(
            f"The schema declares column {name!r} with a dtype that batches cannot contain",
            expected="numbers, text, bytes, booleans, categories, decimals, dates, timestamps or durations",
            found=str(dtype),
            todo="declare another dtype",
        ) from error


def _describe(failures: pd.DataFrame, groups: int = 4, rows: int = 3) -> str:
    """Return the first few failing columns and checks, each with its count and first rows."""
    texts = []
    grouped = list(failures.groupby(["column", "check"], sort=False, dropna=False))
    for (column, check), cases in grouped[:groups]:
        where = "the table" if not isinstance(column, str) else f"column {column!r}"
        located = cases[cases["index"].notna()]
        if located.empty:
            texts.append(f"{where} fails {check} (found {str(cases['failure_case'].iloc[0])[:40]})")
            continue
        shown = [
            f"row {int(case['index']) + 1}: {str(case['failure_case'])[:40]}"
            for _, case in located.head(rows).iterrows()
        ]
        more = ", ..." if len(located) > rows else ""
        number = counted(located["index"].nunique(), "row")
        texts.append(f"{where} fails {check} in {number} ({', '.join(shown)}{more})")
    if len(grouped) > groups:
        texts.append(f"and {len(grouped) - groups} more checks")
    return "; ".join(texts)
