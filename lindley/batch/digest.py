"""The content digest of a batch: format ``lindley-batch/1``.

The digest identifies a table by its *values*. Two tables have the same digest exactly when they
have the same column names, the same type family in each column, and the same multiset of rows.

It does not depend on the order of rows or columns, chunking, dictionary or run-end encoding, the
width or signedness of integers, `string` against `large_string` or `string_view`, the unit of times,
timestamps and durations, the name of a time zone (the instants count), decimal scale and width,
schema metadata, file format, or the version of any library.

It differs for any changed value, with these fine points: ``-0.0`` is not ``0.0``; NaN is not null;
all NaN payloads are one NaN; float16 and float32 are widened exactly, so float32 ``0.1`` is not
float64 ``0.1``; the integer 1, the float 1.0, the text "1" and the decimal 1 all differ; a date is
not a timestamp; a timestamp with a zone is not one without; a row that occurs twice counts twice.

Canonical form
--------------
``sha256(header || row_1 || row_2 || ... || row_n)`` in lower-case hexadecimal, where

- the header is the JSON text ``{"columns":[[name,family],...],"format":"lindley-batch/1","rows":n}``
  in UTF-8, without white space, keys in that order, non-ASCII characters unescaped, columns sorted
  by the UTF-8 bytes of their names, followed by one line feed;
- a row is the concatenation of its cells in the header's column order; all rows have the same length;
- rows are sorted as unsigned bytes;
- a cell is one flag byte (0 null, 1 value, 2 see ``int``) and a payload of fixed length, all zero
  for a null. Integers are big-endian, signed ones in two's complement:

============  ===============================================================================
family        payload
============  ===============================================================================
null          none
bool          1 byte, 0 or 1
int           8 bytes, signed; from 2**63 on the flag is 2 and the payload is unsigned
float         8 bytes, IEEE 754 binary64; every NaN is 7ff8000000000000
date          8 bytes, signed days since 1970-01-01
timestamp     8 bytes, signed whole seconds (floor) since 1970-01-01T00:00:00, and 4 bytes, unsigned
              nanoseconds; no time zone
timestamptz   the same since 1970-01-01T00:00:00Z
time          8 bytes, nanoseconds since midnight
duration      as timestamp
string        32 bytes, sha256 of the UTF-8 text (not normalised)
binary        32 bytes, sha256 of the bytes
decimal       32 bytes, sha256 of the ASCII text ``[-]DIGITS"E"EXPONENT`` without leading zeros in
              DIGITS and with trailing zeros moved into EXPONENT; zero is ``0E0``
============  ===============================================================================

Nested types, calendar intervals and extension types have no canonical form and are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from lindley.errors import BatchRefused

#: Name of the canonical form; any change of the form changes the name.
FORMAT = "lindley-batch/1"

#: Units of time in a second.
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_MS_PER_DAY = 86_400_000
_CANONICAL_NAN = np.uint64(0x7FF8000000000000)

_FAMILIES: dict[str, tuple[Callable[[pa.DataType], bool], ...]] = {
    "null": (pa.types.is_null,),
    "bool": (pa.types.is_boolean,),
    "int": (pa.types.is_integer,),
    "float": (pa.types.is_floating,),
    "decimal": (pa.types.is_decimal,),
    "date": (pa.types.is_date,),
    "time": (pa.types.is_time,),
    "duration": (pa.types.is_duration,),
    "string": (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view),
    "binary": (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view,
               pa.types.is_fixed_size_binary),
}  # fmt: skip
#: What the columns of a batch can be, for messages.
FLAT = "numbers, text, bytes, booleans, decimals, dates, times, timestamps or durations"


def family(kind: pa.DataType) -> str | None:
    """Return the type family that `kind` belongs to, None when it has no canonical form.

    Dictionary and run-end encoded types belong to the family of their values.
    """
    kind = value_type(kind)
    if pa.types.is_timestamp(kind):
        return "timestamp" if kind.tz is None else "timestamptz"
    return next((name for name, tests in _FAMILIES.items() if any(test(kind) for test in tests)), None)


def flat_family(name: str, kind: pa.DataType) -> str:
    """Return the family of a column's type.

    Raises
    ------
    BatchRefused
        If the type has no canonical form.
    """
    found = family(kind)
    if found is None:
        raise BatchRefused(
            f"Column {name!r} has a type that batches cannot contain",
            expected=FLAT,
            found=str(kind)[:200],
            todo="spread nested values over flat columns, or leave the column out",
        )
    return found


def value_type(kind: pa.DataType) -> pa.DataType:
    """Return the type of the values behind dictionary and run-end encoding."""
    while pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        kind = kind.value_type
    return kind


def decode(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return `column` with dictionary and run-end encoding undone."""
    while column.type != value_type(column.type):
        if pa.types.is_run_end_encoded(column.type):
            chunks = [pc.run_end_decode(chunk) for chunk in column.chunks]
        else:
            chunks = [chunk.dictionary_decode() for chunk in column.chunks]
        column = pa.chunked_array(chunks, type=column.type.value_type)
    return column


def content_digest(table: pa.Table) -> str:
    """Return the digest of the table's values in the format ``lindley-batch/1``.

    Parameters
    ----------
    table
        Any Arrow table of flat columns with distinct names. It may have no rows.

    Returns
    -------
    str
        64 lower-case hexadecimal digits.

    Raises
    ------
    BatchRefused
        If two columns have the same name, or a column's type has no canonical form.
    """
    if len(set(table.column_names)) < table.num_columns:
        raise BatchRefused(
            "A table without distinct column names has no content digest",
            found=", ".join(repr(name) for name in table.column_names)[:200],
            todo="rename the columns",
        )
    names = sorted(table.column_names, key=lambda name: name.encode())
    families = [flat_family(name, table.schema.field(name).type) for name in names]
    header = {
        "columns": [[name, kind] for name, kind in zip(names, families, strict=True)],
        "format": FORMAT,
        "rows": table.num_rows,
    }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")) + "\n"
    digest = hashlib.sha256(text.encode())
    cells = [
        _cells(name, decode(table.column(name)), kind) for name, kind in zip(names, families, strict=True)
    ]
    if cells and table.num_rows:
        digest.update(_sorted_rows(np.concatenate(cells, axis=1)))
    return digest.hexdigest()


def row_digests(table: pa.Table) -> list[bytes]:
    """Return a digest of 32 bytes for each row by its values; equal rows have equal digests, in any table."""
    names = sorted(table.column_names, key=lambda name: name.encode())
    families = [flat_family(name, table.schema.field(name).type) for name in names]
    pairs = zip(names, families, strict=True)
    cells = np.concatenate([_cells(name, decode(table.column(name)), kind) for name, kind in pairs], axis=1)
    header = json.dumps([names, families], ensure_ascii=False).encode()
    return [hashlib.sha256(header + row.tobytes()).digest() for row in np.ascontiguousarray(cells)]


def _sorted_rows(rows: npt.NDArray[np.uint8]) -> bytes:
    """Return the rows (row, byte), sorted as unsigned bytes, one after the other."""
    width = rows.shape[1]
    # numpy compares fixed-length byte strings over their full length, trailing zeros included.
    keys = np.ascontiguousarray(rows).view(f"S{width}").ravel()
    keys.sort()
    return keys.tobytes()


def _cells(name: str, column: pa.ChunkedArray, kind: str) -> npt.NDArray[np.uint8]:
    """Return flag and payload of every cell, (row, byte)."""
    missing = column.is_null().to_numpy()
    flag = np.where(missing, 0, 1).astype(np.uint8)
    if kind == "null":
        payload = np.empty((len(column), 0), dtype=np.uint8)
    elif kind == "int":
        payload = _integers(column, flag)
    elif kind == "float":
        payload = _floats(column)
    elif kind in ("timestamp", "timestamptz", "duration"):
        payload = _seconds(column)
    elif kind in ("string", "binary", "decimal"):
        payload = _hashed(column, kind)
    else:
        payload = _small(name, column, kind)
    payload[missing] = 0
    return np.concatenate([flag[:, None], payload], axis=1)


def _bytes_of(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8]:
    """Return the big-endian bytes of fixed-width values, (row, byte)."""
    values = np.ascontiguousarray(values.astype(values.dtype.newbyteorder(">")))
    return values.view(np.uint8).reshape(len(values), values.dtype.itemsize)


def _as_int64(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    """Return the stored integers behind a temporal or integer column, 0 for nulls."""
    if column.type.bit_width == 32 and not pa.types.is_integer(column.type):
        column = column.cast(pa.int32())
    values: npt.NDArray[np.int64] = column.cast(pa.int64()).fill_null(0).to_numpy()
    return values


def _integers(column: pa.ChunkedArray, flag: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    if pa.types.is_uint64(column.type):
        unsigned = column.fill_null(0).to_numpy()
        flag[unsigned >= np.uint64(2**63)] = 2
        return _bytes_of(unsigned)
    return _bytes_of(_as_int64(column))


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    values = column.cast(pa.float64()).fill_null(0.0).to_numpy()
    bits = np.ascontiguousarray(values).view(np.uint64).copy()
    bits[np.isnan(values)] = _CANONICAL_NAN
    return _bytes_of(bits)


def _seconds(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    per_second = PER_SECOND[column.type.unit]
    ticks = _as_int64(column)
    seconds = ticks // per_second
    nanos = (ticks - seconds * per_second) * (10**9 // per_second)
    return np.concatenate([_bytes_of(seconds), _bytes_of(nanos.astype(np.uint32))], axis=1)


def _small(name: str, column: pa.ChunkedArray, kind: str) -> npt.NDArray[np.uint8]:
    """Return the payload of booleans, dates and times of day."""
    if kind == "bool":
        return column.cast(pa.uint8()).fill_null(0).to_numpy().astype(np.uint8).reshape(-1, 1)
    ticks = _as_int64(column)
    if kind == "time":
        return _bytes_of(ticks * (10**9 // PER_SECOND[column.type.unit]))
    if pa.types.is_date64(column.type):
        if (ticks % _MS_PER_DAY).any():
            raise BatchRefused(
                f"Column {name!r} contains a date with a time of day",
                expected="date64 values that are whole days",
                todo="make the column a timestamp or a date",
            )
        ticks = ticks // _MS_PER_DAY
    return _bytes_of(ticks)


def _hashed(column: pa.ChunkedArray, kind: str) -> npt.NDArray[np.uint8]:
    """Return the sha256 of every value, computed once for each distinct one."""
    wide = {"string": pa.large_string(), "binary": pa.large_binary()}.get(kind)
    encoded = (column if wide is None else column.cast(wide)).combine_chunks().dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    values = encoded.dictionary.to_pylist()
    if not values:
        return np.zeros((len(column), 32), dtype=np.uint8)
    to_bytes: dict[str, Callable[[Any], bytes]] = {
        "string": str.encode,
        "binary": bytes,
        "decimal": lambda value: _decimal_text(value).encode(),
    }
    digests = b"".join(hashlib.sha256(to_bytes[kind](value)).digest() for value in values)
    rows = np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32)
    return rows[encoded.indices.fill_null(0).to_numpy()]


def _decimal_text(value: Decimal) -> str:
    """Return digits and exponent; not `Decimal.normalize`, which rounds to the context's precision."""
    sign, digits, exponent = value.as_tuple()
    text = "".join(map(str, digits)).lstrip("0")
    stripped = text.rstrip("0")
    if not stripped:
        return "0E0"
    return f"{'-' if sign else ''}{stripped}E{int(exponent) + len(text) - len(stripped)}"
