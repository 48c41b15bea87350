"""Reading CSV files.

Dialect: UTF-8 with or without byte order mark, comma, one header line, quotes doubled inside quoted
values, line feeds allowed inside quotes, empty lines skipped. An empty field is null, a quoted empty
field (``""``) is the empty text, ``NaN`` is the float NaN. A declaration may name further spellings of
null (`missing`). A quote inside a value that is not quoted (``5" pipe``) is part of it.

Declared columns are read as text, so that the cast sees what the file contains ("007" stays "007");
columns whose type the schema leaves open are inferred.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from itertools import islice

import pyarrow as pa
import pyarrow.csv

from lindley.batch.expected import Expected
from lindley.batch.limits import too_big
from lindley.batch.schema import BatchSchema, declared_names
from lindley.errors import BatchUnreadable

#: Bytes that are decoded at once to check them.
_BLOCK = 2**20
#: A quote that only a backslash before it explains; ``"C:\\"`` at the end of a value is none.
_ESCAPED_QUOTE = re.compile(rb'\\"[^",\r\n]')


def read_csv(name: str, data: bytes, expected: Expected) -> pa.Table:
    """Return the table in the bytes of a CSV file; see `lindley.batch.formats.Format`."""
    _check_text(name, data)
    schema, limits = expected.schema, expected.limits
    parse = pyarrow.csv.ParseOptions(newlines_in_values=True)
    # Serial reading: errors then state the row they are in.
    read = pyarrow.csv.ReadOptions(use_threads=False)
    try:
        header = _header(data)
        if not header:
            raise pa.ArrowInvalid("no header line")
        _check_separator(name, header)
        if b'"' in data:
            _check_quotes(name, data)
        if len(header) > limits.columns:
            raise too_big(name, "columns", limits.columns, len(header))
        spelled = dict(zip(header, declared_names(header, schema), strict=True))
        index = _index_column(header, data, schema)
        columns = schema.columns([spelled[each] for each in header if each != index])
        types = {column.name: column.type for column in columns}
        wanted = [each for each in header if each != index and spelled[each] in types]
        convert = pyarrow.csv.ConvertOptions(
            column_types={each: pa.string() for each in wanted if types[spelled[each]] is not None},
            include_columns=wanted,
            null_values=["", *expected.missing],
            strings_can_be_null=True,
            # A quoted value is text, whatever it says, unless the quoted empty text is declared as missing.
            quoted_strings_can_be_null="" in expected.missing,
        )
        table = pyarrow.csv.read_csv(io.BytesIO(data), read, parse, convert)
    except (pa.ArrowInvalid, pa.ArrowKeyError, csv.Error) as error:
        raise BatchUnreadable(
            f"{name} cannot be read as CSV",
            expected="comma-separated values with the same number of fields in every row",
            found=str(error).removeprefix("CSV parse error: ")[:300],
            todo="correct that row",
        ) from error
    return table.rename_columns([spelled[each] for each in table.column_names])


def read_gzipped_csv(name: str, data: bytes, expected: Expected) -> pa.Table:
    """Return the table in the bytes of a gzipped CSV file; see `lindley.batch.formats.Format`."""
    limit = expected.limits.uncompressed_bytes
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            text = file.read(limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise BatchUnreadable(
            f"{name} cannot be unpacked",
            expected="a complete gzip archive of one CSV file",
            found=str(error)[:300],
            todo="write or copy the file again; it is damaged or was cut off",
        ) from error
    if len(text) > limit:
        raise too_big(name, "bytes of text", limit, "more")
    return read_csv(name, text, expected)


def _rows_of(data: bytes) -> Iterator[list[str]]:
    """Return the rows of a file, by Python's reader; empty lines are skipped.

    A second, independent reader: it refuses what stands behind a closing quote, which Arrow's reader takes
    as part of the value.
    """
    csv.field_size_limit(max(csv.field_size_limit(), len(data) + 1))
    text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline="")
    return (row for row in csv.reader(text, strict=True) if row)


def _header(data: bytes) -> list[str]:
    return next(_rows_of(data), [])


def _check_quotes(name: str, data: bytes) -> None:
    """Refuse quotes that readers understand differently: escaped by a backslash, or without an end."""
    number, found = 0, ""
    try:
        for _ in _rows_of(data):
            number += 1
        escaped = _ESCAPED_QUOTE.search(data)
        if escaped:
            line = data.count(b"\n", 0, escaped.start()) + 1
            found = f"a quote after a backslash, in line {line:,}"
    except csv.Error as error:
        cut = "unexpected end" in str(error)
        found = "a quoted value without an end" if cut else f"{error}, in row {number + 1:,} of the file"
        found += "; the file may have been cut off" if cut else ""
    if found:
        raise BatchUnreadable(
            f"{name} cannot be read as CSV",
            expected='every quoted value to end with a quote, and " doubled inside it',
            found=found,
            todo='write the file again, with " doubled inside quoted values and no escape by a backslash',
        )


def _index_column(header: list[str], data: bytes, schema: BatchSchema) -> str | None:
    """Return the name of a first column that only counts the rows, as `to_csv` of pandas and R write it.

    It has no name (or is what pandas makes of that), the schema does not declare it, and it counts from 0
    or 1 without a gap.
    """
    first = header[0] if header else None
    if first not in ("", "Unnamed: 0") or schema.declares(first):
        return None
    numbers = (row[0] for row in islice(_rows_of(data), 1, None))
    start = next(numbers, None)
    if start not in ("0", "1"):
        return None
    counted = all(number == str(place) for place, number in enumerate(numbers, int(start) + 1))
    return first if counted else None


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
            # Spreadsheets with a decimal comma separate by semicolons.
            decimal = ", and decimal points instead of commas" if separator == ";" else ""
            raise BatchUnreadable(
                f"{name} is not separated by commas",
                expected="comma-separated values",
                found=f"one column named {header[0]!r:.80}, so probably {word}",
                todo=f"export the file with commas between values{decimal}",
            )
