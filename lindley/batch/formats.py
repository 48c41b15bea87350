"""The formats of batch files: one entry each, and everything that depends on the format is in it.

To add a format, append an entry to `FORMATS`; `python -m lindley.batch.formats` writes the table of formats
into docs/guides/landing-folder.md.
The watcher of the landing folder imports this module, so that readers are imported when they read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    import pyarrow as pa

    from lindley.batch.expected import Expected

#: Marks around the table of formats in the documentation.
TABLE_BEGIN = "<!-- formats: begin, written by lindley.batch.formats -->"
TABLE_END = "<!-- formats: end -->"


@dataclass(frozen=True, kw_only=True)
class Format:
    """A kind of files that become batches.

    Parameters
    ----------
    name
        What people call it.
    extension
        Ending of its files' names, lower case, with the dot.
    content
        What a file contains, for messages.
    notes
        Dialect and restrictions, for the documentation.
    read
        Return the table in a file's bytes, given its name for messages, the bytes, and what is expected
        (schema, limits, spellings of null). Raises `BatchUnreadable` for bytes that are no such file,
        `BatchRefused` for columns that do not fit the schema and sizes above the limits.
    magic
        First bytes of every file; empty for a format of text.
    complete
        Whether an open file ends as its writer leaves it; None for a format whose end shows nothing.
    """

    name: str
    extension: str
    content: str
    notes: str
    read: Callable[[str, bytes, Expected], pa.Table]
    magic: bytes = b""
    complete: Callable[[BinaryIO], bool] | None = None

    def disguised(self, data: bytes) -> str | None:
        """Return the kind of file that the first bytes show, None where it is this one."""
        if self.magic and data.startswith(self.magic):
            return None
        kinds = _OTHER_KINDS | {form.magic: f"a {form.name} file" for form in FORMATS if form.magic}
        kind = next((kind for magic, kind in kinds.items() if data.startswith(magic)), None)
        return kind or (f"a file that begins with {data[:4]!r}" if self.magic else None)


def format_of(path: PurePath) -> Format | None:
    """Return the format that a file's extension names, in any case; None for an extension of no format."""
    name = path.name.lower()
    return next((form for form in FORMATS if name.endswith(form.extension)), None)


def extension_of(path: PurePath) -> str:
    """Return the extension of a file's name, lower case: that of its format, or what follows the last dot."""
    form = format_of(path)
    return form.extension if form else path.suffix.lower()


def any_of(words: Iterable[str]) -> str:
    """Return alternatives as a sentence has them: ``a, b or c``."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def markdown_table() -> str:
    """Return the table of formats that stands in the documentation."""
    rows = [f"| {form.name} | `{form.extension}` | {form.notes} |" for form in FORMATS]
    return "\n".join(["| format | extension | notes |", "| --- | --- | --- |", *rows])


def _read_csv(name: str, data: bytes, expected: Expected) -> pa.Table:
    from lindley.batch.csv_format import read_csv  # imports Arrow, which the watcher does without

    return read_csv(name, data, expected)


def _read_gzipped_csv(name: str, data: bytes, expected: Expected) -> pa.Table:
    from lindley.batch.csv_format import read_gzipped_csv  # imports Arrow, which the watcher does without

    return read_gzipped_csv(name, data, expected)


def _read_parquet(name: str, data: bytes, expected: Expected) -> pa.Table:
    from lindley.batch.parquet_format import read_parquet  # imports Arrow, which the watcher does without

    return read_parquet(name, data, expected)


_PARQUET_MAGIC, _GZIP_MAGIC = b"PAR1", b"\x1f\x8b"


def _ends_as_parquet(file: BinaryIO) -> bool:
    if file.seek(0, os.SEEK_END) < 2 * len(_PARQUET_MAGIC):
        return False
    file.seek(-len(_PARQUET_MAGIC), os.SEEK_END)
    return file.read() == _PARQUET_MAGIC


#: Every format of batch files.
FORMATS = (
    Format(
        name="CSV",
        extension=".csv",
        content="comma-separated text",
        notes="UTF-8, comma, one header line; quotes are doubled inside quoted values, which may contain line"
        ' feeds; an empty field is null, `""` is the empty text, `NaN` is the float NaN; the declaration may'
        " name further spellings of null (`missing`); a first column without a name that counts the rows is"
        " left out. Complete when it has not changed for a second.",
        read=_read_csv,
    ),
    Format(
        name="gzipped CSV",
        extension=".csv.gz",
        content="a gzip archive of comma-separated text",
        notes="as CSV, compressed with gzip; the limit of memory counts the text.",
        read=_read_gzipped_csv,
        magic=_GZIP_MAGIC,
    ),
    Format(
        name="Parquet",
        extension=".parquet",
        content="a file that begins and ends with PAR1",
        notes="flat columns; UUID, JSON, bool8, periods and intervals become flat values; pandas' index"
        " without a name is left out. Complete when it has not changed for a"
        " second and ends with `PAR1`; without that end it is rejected after a minute.",
        read=_read_parquet,
        magic=_PARQUET_MAGIC,
        complete=_ends_as_parquet,
    ),
)
#: The formats, for messages.
ANY_FORMAT = any_of(form.name for form in FORMATS)
#: First bytes of files of other formats that people rename.
_OTHER_KINDS = {
    b"PK\x03\x04": "a zip archive or a spreadsheet",
    _GZIP_MAGIC: "a gzip archive",
    b"\x28\xb5\x2f\xfd": "a zstd archive",
    b"ARROW1": "an Arrow IPC file",
}

if __name__ == "__main__":
    page = Path(__file__).parents[2] / "docs" / "guides" / "landing-folder.md"
    before, _, rest = page.read_text(encoding="utf-8").partition(TABLE_BEGIN)
    _, _, after = rest.partition(TABLE_END)
    page.write_text(f"{before}{TABLE_BEGIN}\n{markdown_table()}\n{TABLE_END}{after}", encoding="utf-8")
