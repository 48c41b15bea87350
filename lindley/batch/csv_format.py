"""Reading CSV files.

Dialect: UTF-8 with or without byte order mark, comma, one header line, quotes doubled inside quoted
values, line feeds allowed inside quotes, empty lines skipped. An empty field is null, a quoted empty
field (``""``) is the empty text, ``NaN`` is the float NaN.

Declared columns are read as text, so that the cast sees what the file contains ("007" stays "007");
columns whose type the schema leaves open are inferred.
"""

from __future__ import annotations

import codecs
import io

import pyarrow as pa
import pyarrow.csv

from lindley.batch.limits import Limits, too_big
from lindley.batch.schema import BatchSchema
from lindley.errors import BatchUnreadable

#: Bytes that are decoded at once to check them.
_BLOCK = 2**20


def read_csv(name: str, data: bytes, schema: BatchSchema, limits: Limits) -> pa.Table:
    """Return the table in the bytes of a CSV file; see `lindley.batch.formats.Format`."""
    _check_text(name, data)
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    # Serial reading: errors then state the row they are in.
    read = pyarrow.csv.ReadOptions(use_threads=False)
    try:
        with pyarrow.csv.open_csv(io.BytesIO(data), read, parse) as stream:
            header = stream.schema.names
        if len(header) > limits.columns:
            raise too_big(name, "columns", limits.columns, len(header))
        _check_separator(name, header)
        columns = schema.columns(header)
        convert = pyarrow.csv.ConvertOptions(
            column_types={column.name: pa.string() for column in columns if column.type is not None},
            include_columns=[column.name for column in columns],
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )
        return pyarrow.csv.read_csv(io.BytesIO(data), read, parse, convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise BatchUnreadable(
            f"{name} cannot be read as CSV",
            expected="comma-separated values with the same number of fields in every row",
            found=str(error).removeprefix("CSV parse error: ")[:300],
            todo="correct that row",
        ) from error


def _check_text(name: str, data: bytes) -> None:
    """Refuse bytes that are not UTF-8 text, with the place of the first one."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise _not_utf8(name, "text in UTF-16")
    bad = _first_undecodable(data)
    if bad is not None:
        line = data.count(b"\n", 0, bad) + 1
        raise _not_utf8(name, f"byte 0x{data[bad]:02x} at position {bad + 1:,}, in line {line:,}")
    if b"\0" in data:
        raise _not_utf8(name, f"a zero byte at position {data.index(0) + 1:,}")
    if data.count(b'"') % 2:
        raise BatchUnreadable(
            f"{name} cannot be read as CSV",
            expected="every quoted value to end with a quote",
            found="an odd number of quotes; the file may have been cut off",
            todo='write the file again, with " doubled inside quoted values',
        )


def _not_utf8(name: str, found: str) -> BatchUnreadable:
    return BatchUnreadable(
        f"{name} is not text in UTF-8",
        expected="a CSV file in UTF-8",
        found=found,
        todo="save or export the file as UTF-8 (spreadsheets call it 'CSV UTF-8')",
    )


def _first_undecodable(data: bytes) -> int | None:
    """Return the position of the first byte that is not UTF-8, in bounded memory."""
    start = 0
    while start < len(data):
        block = data[start : start + _BLOCK]
        try:
            _, used = codecs.utf_8_decode(block, "strict", start + len(block) == len(data))
        except UnicodeDecodeError as error:
            return start + error.start
        start += used
    return None


def _check_separator(name: str, header: list[str]) -> None:
    """Refuse a one-column header that only another separator explains."""
    if len(header) != 1:
        return
    for separator, word in ((";", "semicolons"), ("\t", "tabs"), ("|", "vertical bars")):
        if separator in header[0]:
            raise BatchUnreadable(
                f"{name} is not separated by commas",
                expected="comma-separated values",
                found=f"one column named {header[0]!r:.80}, so probably {word}",
                todo="export the file with commas",
            )
