"""Names of files that come in: which kinds are read, and how a name is shown."""

from __future__ import annotations

from pathlib import Path

#: Extensions of files that become batches.
EXTENSIONS = (".csv", ".parquet")
#: What a Parquet file begins and ends with.
PARQUET_MAGIC = b"PAR1"


def shown_name(path: Path) -> str:
    """Return the file's name fit for a message: escaped and shortened, without its folder."""
    name = printable(path.name)
    return name if len(name) <= 80 else name[:60] + "..." + name[-17:]


def printable(text: str) -> str:
    """Return text with what cannot be printed or encoded escaped, fit for records, pages and terminals."""
    text = text.encode("utf-8", "backslashreplace").decode()
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
