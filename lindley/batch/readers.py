"""Reading untrusted files of every batch format.

The extension chooses the format (`lindley.batch.formats`), and the content must agree. Sizes are limited
before anything is decoded, so a small file that unpacks to a huge table is refused. Every way of being
unreadable is one `BatchUnreadable`. A disk or a permission that withholds the bytes is `FileUnavailable`:
it is no fault of the file.
"""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa

from lindley.batch import formats
from lindley.batch.expected import Expected
from lindley.batch.formats import ANY_FORMAT, any_of
from lindley.batch.limits import Limits, too_big
from lindley.batch.parquet_format import read_folder
from lindley.batch.schema import listed
from lindley.errors import BatchRefused, BatchUnreadable, FileUnavailable
from lindley.names import shown_name


def read_table(path: Path, expected: Expected) -> pa.Table:
    """Read a file as an Arrow table, not yet cast to the schema.

    Parameters
    ----------
    path
        The file, or a folder of Parquet files (see `lindley.batch.parquet_format`).
    expected
        Schema, limits and spellings of null.

    Raises
    ------
    BatchUnreadable
        If there is no such file, or its bytes are not a table.
    BatchRefused
        If it has no rows, exceeds a limit, or has other columns than the schema declares.
    FileUnavailable
        If the operating system does not let Lindley read it.
    """
    path, limits = Path(path), expected.limits
    if path.is_dir() and not path.is_symlink():
        return _with_rows(shown_name(path), read_folder(path, expected, _bytes_of), limits)
    name, form = shown_name(path), formats.format_of(path)
    if form is None:
        raise BatchUnreadable(
            f"{name} has an extension that cannot be read",
            expected=f"a file that ends in {any_of(form.extension for form in formats.FORMATS)}",
            found=repr(path.suffix.lower()) if path.suffix else "no extension",
            todo=f"export the data as {ANY_FORMAT}",
        )
    data = _bytes_of(path, limits)
    if (kind := form.disguised(data)) is not None:
        raise BatchUnreadable(
            f"{name} is not a {form.name} file",
            expected=form.content,
            found=kind,
            todo=f"name the file by what it is, or export it as {form.name}",
        )
    return _with_rows(name, form.read(name, data, expected), limits)


def _with_rows(name: str, table: pa.Table, limits: Limits) -> pa.Table:
    """Return a table that has rows, and no more than allowed."""
    if table.num_rows > limits.rows:
        raise too_big(name, "rows", limits.rows, table.num_rows)
    if table.num_rows == 0:
        raise BatchRefused(
            f"{name} has no rows",
            expected="at least one row below the header",
            found=f"the columns {listed(table.column_names)} and nothing else",
            todo="wait for data, or drop a file with rows",
        )
    return table


def _bytes_of(path: Path, limits: Limits) -> bytes:
    """Return the file's bytes after the checks that need no parsing."""
    name = shown_name(path)
    try:
        if not path.is_file():
            raise _no_file(name, "a folder" if path.is_dir() else "no such file")
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > limits.file_bytes:
                raise too_big(name, "bytes in the file", limits.file_bytes, size)
            data = file.read()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:  # since the check above
        raise _no_file(name, error.strerror or str(error)) from error
    except OSError as error:
        raise FileUnavailable(
            f"{name} could not be read",
            error,
            todo="check its permissions and its disk; a file that landed stays, and its chain waits for it",
        ) from error
    if not data:
        raise BatchUnreadable(
            f"{name} is empty",
            expected="a table with at least one row",
            found="0 bytes",
            todo="check what wrote it; it may have been cut off",
        )
    return data


def _no_file(name: str, found: str) -> BatchUnreadable:
    return BatchUnreadable(
        f"{name} cannot be read",
        expected=f"a {ANY_FORMAT} file",
        found=found,
        todo="give the path of one file",
    )
