"""Flat values of columns that files store under an extension type: UUID, JSON, bool8, period, interval.

A writer names such a type beside the stored values. Arrow returns a type of its own where it knows the name,
and otherwise the stored values with the name in the field's metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from lindley.batch.digest import decode, family

_NAME, _PARAMETERS = b"ARROW:extension:name", b"ARROW:extension:metadata"


def flat_values(field: pa.Field, column: pa.ChunkedArray, wanted: pa.DataType | None) -> pa.ChunkedArray:
    """Return a column with the flat values that its extension type stands for; others unchanged.

    Parameters
    ----------
    field, column
        The field of a table, with its metadata, and its values.
    wanted
        The declared type; None where the schema leaves it open. A UUID is text, or 16 bytes where bytes are
        declared; a period is the time at which it starts, or its text; an interval is its text.
    """
    metadata = field.metadata or {}
    if isinstance(column.type, pa.BaseExtensionType):
        kind = column.type
        name, parameters = kind.extension_name, _serialized(kind)
        column = pa.chunked_array([chunk.storage for chunk in column.chunks], type=kind.storage_type)
    elif _NAME in metadata:
        name, parameters = metadata[_NAME].decode(), metadata.get(_PARAMETERS, b"")
    else:
        return column
    made = _FLAT.get(name)
    return column if made is None else made(decode(column), parameters, family(wanted) if wanted else None)


def _serialized(kind: Any) -> bytes:
    found = kind.__arrow_ext_serialize__() if hasattr(kind, "__arrow_ext_serialize__") else b""
    return bytes(found)


def _uuid(column: pa.ChunkedArray, _: bytes, wanted: str | None) -> pa.ChunkedArray:
    if wanted == "binary":
        return column
    texts = [None if value is None else str(UUID(bytes=value)) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(texts, pa.string())])


def _bool8(column: pa.ChunkedArray, _: bytes, wanted: str | None) -> pa.ChunkedArray:
    return pc.not_equal(column, 0)


def _same(column: pa.ChunkedArray, _: bytes, wanted: str | None) -> pa.ChunkedArray:
    return column


def _period(column: pa.ChunkedArray, parameters: bytes, wanted: str | None) -> pa.ChunkedArray:
    missing = column.is_null().to_numpy()
    frequency = json.loads(parameters)["freq"]
    periods = pd.PeriodIndex.from_ordinals(column.fill_null(0).to_numpy(), freq=frequency)  # type: ignore[attr-defined]
    if wanted == "string":
        return pa.chunked_array([pa.array(periods.astype(str).to_numpy(object), pa.string(), mask=missing)])
    starts = periods.to_timestamp(how="start").to_numpy()
    return pa.chunked_array([pa.array(starts, mask=missing)])


def _interval(column: pa.ChunkedArray, parameters: bytes, wanted: str | None) -> pa.ChunkedArray:
    closed = json.loads(parameters)["closed"]
    texts = [
        None if value is None else str(pd.Interval(value["left"], value["right"], closed=closed))
        for value in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(texts, pa.string())])


#: Flat values by the name of the extension type.
_FLAT: dict[str, Callable[[pa.ChunkedArray, bytes, str | None], pa.ChunkedArray]] = {
    "arrow.uuid": _uuid,
    "arrow.json": _same,
    "arrow.bool8": _bool8,
    "pandas.period": _period,
    "pandas.interval": _interval,
}
