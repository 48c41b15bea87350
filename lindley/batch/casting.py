"""Lossless casts of columns: refuse a value rather than change it.

The rule: a cast may change the representation of a value, never its meaning. Text becomes any type whose
values it spells out. Numbers never become text, because their original text ("007") is lost.
"""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from lindley.batch.digest import decode, family, value_type
from lindley.errors import BatchRefused

_Cast = Callable[[pa.ChunkedArray, pa.DataType], pa.ChunkedArray]

#: Names of the values of a family, for messages.
WORDS = {
    "bool": "true or false",
    "int": "whole numbers",
    "float": "numbers",
    "decimal": "decimal numbers",
    "string": "text",
    "binary": "bytes",
    "date": "dates such as 2020-01-22",
    "timestamp": "timestamps without a time zone, such as 2020-01-22T13:00:00",
    "timestamptz": "timestamps with a time zone, such as 2020-01-22T13:00:00Z",
    "time": "times of day such as 13:00:00",
    "duration": "durations",
}


#: Texts that programs write for missing values.
_NULLS = ("", "NA", "N/A", "#N/A", "NULL", "null", "None", "nil", "\\N", ".", "-")


def cast_column(name: str, column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Return `column` as the type `target`, with every value kept exactly.

    Parameters
    ----------
    name
        The column's name, for the error.
    column
        The values, of any flat type.
    target
        The declared type.

    Raises
    ------
    BatchRefused
        If the types are incompatible, or a value would change; names the first such row.
    """
    column = decode(column)
    target = value_type(target)
    if pa.types.is_float16(column.type) and column.type != target:
        column = column.cast(pa.float32())  # Exact; Arrow compares no half floats.
    if column.type == target:
        return column
    source, wanted = family(column.type), family(target)
    if source == "null" or column.null_count == len(column):
        return pa.chunked_array([pa.nulls(len(column), target)])
    cast = _CASTS.get((source or "", wanted or ""))
    if source == wanted and cast is None:
        cast = _safe
    if cast is None:
        raise BatchRefused(
            f"Column {name!r} has the wrong type",
            expected=f"{target} ({WORDS.get(wanted or '', 'flat values')})",
            found=f"{column.type}{_example(column)}",
            todo=_hint(source, wanted),
        )
    try:
        return cast(column, target)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        row = _first_refused(column, target, cast)
        raise BatchRefused(
            f"Column {name!r} cannot be read as {target} without loss",
            expected=WORDS.get(wanted or "", "values") + f" that fit {target}",
            found=f"{shown_value(column[row])} in row {row + 1}",
            todo=_todo(source, column[row]),
        ) from error


def _example(column: pa.ChunkedArray) -> str:
    values = column.drop_null()
    return f", for example {shown_value(values[0])}" if len(values) else ""


def shown_value(value: pa.Scalar) -> str:
    """Return the value for a message: text quoted, everything short."""
    try:
        plain = value.as_py()
        text = repr(plain) if isinstance(plain, str | bytes) else str(plain)
    except (ValueError, OverflowError):
        text = value.cast(pa.string()).as_py()  # Out of the range of Python's type, as the year 33658.
    return text if len(text) <= 60 else text[:57] + "..."


def _todo(source: str | None, value: pa.Scalar) -> str:
    text = value.as_py() if source == "string" else None
    if text in _NULLS:
        return f"if it stands for a missing value, declare missing=({text!r},) beside the schema"
    return "correct the value in the file, or declare a type that can represent it"


def _hint(source: str | None, wanted: str | None) -> str:
    if wanted == "string":
        return "write the column as text (a number has lost leading zeros), or declare the type that it has"
    if {source, wanted} == {"timestamp", "timestamptz"}:
        return "state the time zone: convert the column, or declare the type that it has"
    return "correct the column in the file, or declare the type that it has"


def _first_refused(column: pa.ChunkedArray, target: pa.DataType, cast: _Cast) -> int:
    """Return the position of the first value that `cast` refuses, by bisection."""
    low, high = 0, len(column)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            cast(column.slice(low, middle - low), target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            high = middle
        else:
            low = middle
    return low


def _require(condition: pa.ChunkedArray, why: str) -> None:
    """Raise as Arrow does when a value does not meet the condition; nulls pass."""
    if not pc.all(condition, min_count=0).as_py():
        raise pa.ArrowInvalid(why)


def _trimmed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_trim_whitespace(column.cast(pa.large_string()))


def _text_to_int(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    column = _trimmed(column)
    plain = pc.match_substring_regex(column, r"^-?[0-9]+$")
    if pc.all(plain, min_count=0).as_py():
        return column.cast(target)
    # Whole numbers that a float column was written with ("3.0", "1e3"); Arrow would take "0x10" too.
    _require(pc.match_substring_regex(column, r"^[-+]?[0-9.]+([eE][-+]?[0-9]+)?$"), "not a whole number")
    whole = pc.if_else(plain, column, None).cast(target)
    floats = pc.if_else(plain, None, column).cast(pa.float64())
    _require(pc.less_equal(pc.abs(floats), 2.0**53), "too large to be exact")
    return pc.coalesce(whole, floats.cast(target))


def _text_to_float(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    column = _trimmed(column)
    values = column.cast(target)
    spelled = pc.match_substring_regex(column, r"(?i)^[-+]?inf(inity)?$")
    _require(pc.or_(pc.invert(pc.is_inf(values)), spelled), "out of range")
    return values


def _clock(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return texts of times without the zeros at the end of the fraction of a second.

    .NET writes seven digits, SQL Server a midnight of ``.000``: they are exact in a coarser unit.
    """
    column = _trimmed(column)
    shorter = pc.replace_substring_regex(column, r"(:[0-9]{2}\.[0-9]*[1-9])0+(Z|[-+].*)?$", r"\1\2")
    return pc.replace_substring_regex(shorter, r"(:[0-9]{2})\.0+(Z|[-+].*)?$", r"\1\2")


def _text_to_clock(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    return _clock(column).cast(target)


def _text_to_time(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    day, separator = (pa.scalar(text, pa.large_string()) for text in ("1970-01-01", "T"))
    stamps = pc.binary_join_element_wise(day, _clock(column), separator)
    return stamps.cast(pa.timestamp(target.unit)).cast(target)


def _timestamp_to_date(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    days = column.cast(pa.date32())
    _require(pc.equal(days.cast(column.type), column), "a time of day would be lost")
    return days.cast(target)


def _int_to_float(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    values = column.cast(target, safe=False)
    _require(pc.equal(values.cast(column.type), column), "not exact")
    return values


def _float_to_float(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    values = column.cast(target, safe=False)
    same = pc.or_(pc.equal(values.cast(column.type), column), pc.is_nan(column))
    _require(same, "not exact")
    return values


def _int_to_bool(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    _require(pc.is_in(column, pa.array([0, 1, None], column.type)), "neither 0 nor 1")
    return column.cast(target)


def _safe(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    return column.cast(target)


#: By source and target family; `_safe` stands for Arrow's own check.
_CASTS: dict[tuple[str, str], _Cast] = {
    ("string", "int"): _text_to_int,
    ("string", "float"): _text_to_float,
    ("string", "bool"): lambda column, target: _trimmed(column).cast(target),
    ("string", "decimal"): lambda column, target: _trimmed(column).cast(target),
    ("string", "date"): lambda column, target: _timestamp_to_date(
        _clock(column).cast(pa.timestamp("s")), target
    ),
    ("string", "timestamp"): _text_to_clock,
    ("string", "timestamptz"): _text_to_clock,
    ("string", "time"): _text_to_time,
    ("string", "binary"): _safe,
    ("binary", "string"): _safe,
    ("int", "float"): _int_to_float,
    ("int", "bool"): _int_to_bool,
    # Through text: Arrow refuses by the integer's type, even when every value would fit.
    ("int", "decimal"): lambda column, target: column.cast(pa.string()).cast(target),
    ("float", "int"): _safe,
    ("float", "float"): _float_to_float,
    ("decimal", "int"): _safe,
    # Through text: correctly rounded, exactly as the same number in a CSV file.
    ("decimal", "float"): lambda column, target: _text_to_float(column.cast(pa.string()), target),
    ("date", "timestamp"): lambda column, target: column.cast(pa.date32()).cast(target),
    ("timestamp", "date"): _timestamp_to_date,
}
