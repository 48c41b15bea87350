"""The inputs of a prediction: rows as in a batch, from a frame or from JSON, without outcomes and row key.

JSON has neither times nor decimals nor bytes: a column of such a type takes its text, bytes in base64.
"""

from __future__ import annotations

import binascii
import datetime as dt
import math
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lindley.batch.batch import as_schema
from lindley.batch.digest import decode, family
from lindley.batch.frames import frame_from_table, table_from_frame
from lindley.batch.row_keys import order_of
from lindley.batch.schema import Column
from lindley.errors import BatchRefused
from lindley.model.declaration import Declaration
from lindley.serving.rows import Inputs

#: A value that stands in for outcomes, by type family; what a model predicts does not depend on it.
_NEUTRAL: dict[str | None, Any] = {"int": 0, "decimal": Decimal(0), "bool": False, "string": ""}


@dataclass(frozen=True)
class InputColumn:
    """A column that a prediction takes: its name, its type in words, and whether it has to be given."""

    name: str
    type: str
    required: bool


def input_columns(declaration: Declaration) -> list[InputColumn] | None:
    """Return the columns that a prediction takes; None where the schema has patterns in place of names.

    Outcomes, the row key and columns that batches may lack need not be given.
    """
    schema = _plain(declaration.schema)
    patterned = not isinstance(schema, pa.Schema) and any(c.regex for c in schema.columns.values())
    if patterned:
        return None
    # Rows of a panel are routed by the key of their member.
    free = {*declaration.observed, *declaration.row_key} - {*declaration.by}
    if not isinstance(schema, pa.Schema):
        free |= {str(name) for name, column in schema.columns.items() if not column.required}
    return [
        InputColumn(c.name, "any" if c.type is None else str(c.type), c.name not in free)
        for c in _declared(declaration)
    ]


def read_inputs(inputs: pd.DataFrame, declaration: Declaration) -> Inputs:
    """Check rows against the schema and make the frame that `build` takes.

    Parameters
    ----------
    inputs
        Rows as in a batch; named index levels are columns. Observed columns and the row key may be missing,
        row keys may repeat.
    declaration
        The chain's.

    Raises
    ------
    BatchRefused
        If the rows do not fit the schema.
    """
    return typed_inputs(inputs, declaration)[0]


def typed_inputs(inputs: pd.DataFrame, declaration: Declaration) -> tuple[Inputs, pa.Table]:
    """Return what `read_inputs` does, and the same rows in their order as a table of the schema's types."""
    if any(name is not None for name in inputs.index.names):
        inputs = inputs.reset_index()
    outcomes = [name for name in declaration.observed if name not in inputs or inputs[name].isna().all()]
    inputs = inputs.drop(columns=outcomes, errors="ignore")
    declared = {column.name: column for column in _declared(declaration)}
    without = tuple(name for name in declaration.row_key if name in declared and name not in inputs)
    if not len(inputs):
        raise BatchRefused("The inputs of a prediction have no rows", expected="at least one row")
    given = table_from_frame(inputs)
    for place, name in enumerate(given.column_names):
        kind = declared[name].type if name in declared else None
        if kind is not None:
            given = given.set_column(place, name, _spelled(name, given.column(name), kind))
    table = as_schema(_partial(declaration.schema, {*outcomes, *without})).conform(given)
    if table.num_rows != len(inputs):
        raise BatchRefused(
            "The schema drops rows of the inputs",
            expected=f"{len(inputs)} rows, each with a prediction",
            found=f"{table.num_rows} rows that pass its checks",
            todo="leave out the rows that do not fit the schema",
        )
    by = (*(declaration.order_by or ()), *order_of(table, tuple(declaration.row_key)))
    keys = [(name, "ascending") for name in dict.fromkeys(by) if name in table.column_names]
    order = pc.sort_indices(table, sort_keys=keys).to_numpy() if keys else np.arange(len(inputs))
    table = _with_outcomes(table.take(order), declared, outcomes)
    given_keys = {name: inputs[name].array for name in declaration.row_key if name in inputs}
    return Inputs(frame_from_table(table), order, given_keys, without), table


def example_rows(table: pa.Table, declaration: Declaration, most: int = 2) -> pd.DataFrame:
    """Return the first rows of a batch as a prediction takes them, with values that JSON has."""
    names = [name for name in table.column_names if name not in declaration.observed]
    columns = {name: [_json(value) for value in table.column(name)[:most].to_pylist()] for name in names}
    return pd.DataFrame(columns, index=range(min(most, table.num_rows)), dtype=object)


def _json(value: Any) -> Any:
    """Spell a value in JSON, so that it is read back as it was."""
    match value:
        case bytes():
            return b64encode(value).decode()
        case Decimal():
            return str(value)
        case dt.timedelta():
            return pd.Timedelta(value).isoformat()
        case dt.date() | dt.time():
            return value.isoformat()
        case float() if not math.isfinite(value):
            return None
    return value


def neutral_frame(declaration: Declaration, rows: int) -> pd.DataFrame:
    """Return rows of neutral values in all columns: enough to inspect the model, not to fit it."""
    columns = {column.name: _neutral(column.type, rows) for column in _declared(declaration)}
    return frame_from_table(pa.table(columns))


def _with_outcomes(table: pa.Table, declared: dict[str, Column], outcomes: Sequence[str]) -> pa.Table:
    """Add neutral values of missing outcomes to rows, all columns in declared order."""
    for name in outcomes:
        if name not in declared:
            raise BatchRefused(
                "The inputs of a prediction were refused",
                expected=f"values of {name}, which the schema gives no type",
                found="no such column",
                todo="add the column, or declare it in the schema",
            )
        table = table.append_column(name, _neutral(declared[name].type, table.num_rows))
    first = [name for name in declared if name in table.column_names]
    return table.select([*first, *(name for name in table.column_names if name not in declared)])


def _neutral(kind: pa.DataType | None, rows: int) -> pa.Array:
    """Return a column of neutral values."""
    group = None if kind is None else family(kind)
    if group in (None, "float"):
        return pa.array(np.full(rows, 0.5, None if kind is None else kind.to_pandas_dtype()))
    if group in _NEUTRAL:
        return pa.array([_NEUTRAL[group]] * rows, kind)
    if kind is not None and pa.types.is_fixed_size_binary(kind):
        return pa.array([bytes(kind.byte_width)] * rows, kind)
    if group == "binary":
        return pa.array([b""] * rows, kind)
    short = pa.types.is_date32(kind) or pa.types.is_time32(kind)
    return pa.array([0] * rows, pa.int32() if short else pa.int64()).cast(kind)


def _spelled(name: str, values: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    """Return a column as batches read it, where JSON or a frame spells values in another way.

    Numbers of double precision stand for the number of the declared precision that is nearest to them, or for
    the decimal that they print as.
    """
    values, wanted = decode(values), family(kind)
    found = family(values.type)
    if found == "string" and wanted in ("binary", "duration"):
        make = _bytes if wanted == "binary" else _duration
        try:
            return pa.chunked_array(
                [pa.array([None if v is None else make(v) for v in values.to_pylist()], kind)]
            )
        except (ValueError, OverflowError, pa.ArrowException) as error:
            raise BatchRefused(
                f"Column {name!r} cannot be read as {kind}",
                expected="bytes in base64" if wanted == "binary" else "durations such as PT1H30M or 01:30:00",
                found=str(error)[:200],
                todo="correct the inputs",
            ) from error
    if found == "float" and wanted == "decimal":
        return pc.cast(values, pa.float64()).cast(pa.string())
    if found == "float" and wanted == "float":
        return pa.chunked_array([_narrowed(values, kind)])
    return values


def _narrowed(values: pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    """Round to the declared precision; a number beyond its range stays, and is refused later."""
    wide = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore"):
        narrow = wide.astype(kind.to_pandas_dtype())
    if (np.isinf(narrow) & np.isfinite(wide)).any():
        return values.combine_chunks()
    return pa.array(narrow, kind, mask=values.is_null().to_numpy(zero_copy_only=False))


def _bytes(text: str) -> bytes:
    """Decode base64, with line breaks or without."""
    try:
        return b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"{text[:40]!r}: {error}") from error


def _duration(text: str) -> Any:
    """Read a duration in ISO 8601 or in pandas' spelling."""
    found = pd.Timedelta(text)
    if found is pd.NaT:
        raise ValueError(f"{text[:40]!r}")
    return found


def _plain(schema: Any) -> Any:
    """Return an Arrow schema, or a pandera schema in place of its model class."""
    if isinstance(schema, pa.Schema):
        return schema
    return schema.to_schema() if hasattr(schema, "to_schema") else schema


def _partial(schema: Any, absent: set[str]) -> Any:
    """Return a schema without some columns; checks that may concern them are left out with them."""
    schema = _plain(schema)
    if isinstance(schema, pa.Schema):
        return pa.schema([field for field in schema if field.name not in absent])
    held = [name for name in schema.columns if name in absent]
    if not held:
        return schema
    # Checks of the whole frame, and keys of several columns, may need the columns that are not there.
    schema = schema.remove_columns(held)
    schema.checks, schema.unique = [], None
    return schema


def _declared(declaration: Declaration) -> tuple[Column, ...]:
    """Return all declared columns, whichever the input has; a pattern's columns are not among them."""
    schema = _plain(declaration.schema)
    if isinstance(schema, pa.Schema):
        return as_schema(schema).columns(schema.names)
    patterns = {name for name, column in schema.columns.items() if column.regex}
    names = [str(name) for name in schema.columns if name not in patterns]
    return as_schema(_partial(schema, patterns)).columns(names) if names else ()
