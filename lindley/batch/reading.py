"""Read untrusted files of every batch format, as tables and as batches.

The extension chooses the format (`lindley.batch.formats`), and the content must agree. Sizes are limited
before anything is decoded, so a small file that unpacks to a huge table is refused. Every way of being
unreadable is one `BatchUnreadable`. A disk or a permission that withholds the bytes is `FileUnavailable`:
it is no fault of the file.
"""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from stat import S_ISDIR, S_ISREG

import pyarrow as pa

from lindley.atomic import without_waiting
from lindley.batch import formats
from lindley.batch.batch import DIGEST_KEY, Batch, as_schema, conformed, naming
from lindley.batch.expected import Expected
from lindley.batch.formats import ANY_FORMAT, any_of
from lindley.batch.limits import UNLIMITED, Limits, too_big
from lindley.batch.parquet_format import read_folder
from lindley.batch.schema import cast_table, listed
from lindley.errors import BatchRefused, BatchUnreadable, FileUnavailable, LedgerCorrupt
from lindley.model.declaration import Declaration
from lindley.names import shown_name
from lindley.timing import READ, VALIDATE, Phases


def read_batch(path: Path, declaration: Declaration, *, limits: Limits | None = None) -> Batch:
    """Read, validate and identify a CSV or Parquet file.

    Parameters
    ----------
    path
        The file; unchanged.
    declaration
        The declaration that the file must fit.
    limits
        Bounds on file and table, see `lindley.batch.limits.Limits`.

    Raises
    ------
    BatchUnreadable
        If the bytes are not a table.
    BatchRefused
        If the table does not fit the schema, is empty or too big, or repeats a row key.
    FileUnavailable
        If the operating system does not let Lindley read it.
    DeclarationRefused
        If row key or `order_by` name columns that the schema does not declare.
    """
    path = Path(path)
    schema = as_schema(declaration.schema)
    phases = Phases()
    with naming(shown_name(path)):
        with phases(READ):
            expected = Expected(schema=schema, limits=limits or Limits(), missing=declaration.missing)
            table = read_table(path, expected)
        with phases(VALIDATE):
            batch = conformed(schema.conform(table), declaration, path.name)
    return replace(batch, seconds=phases.seconds)


def load_batch(path: Path, declaration: Declaration) -> Batch:
    """Read a batch that was archived or logged, and check its digest.

    A Parquet file of `write_batch` states its digest and contains the conformed rows: they are cast to the
    declared types but not parsed or checked again, because the belief that they led to stands. Any other
    file is read as by `read_batch`, without limits.

    Raises
    ------
    LedgerCorrupt
        If the digest that the file states is not that of its content.
    BatchRefused
        If it is not a batch of this declaration.
    """
    path = Path(path)
    schema = as_schema(declaration.schema)
    with naming(shown_name(path)):
        table = read_table(path, Expected(schema=schema, limits=UNLIMITED, missing=declaration.missing))
        stated = (table.schema.metadata or {}).get(DIGEST_KEY)
        if stated is None:
            return conformed(schema.conform(table), declaration, path.name)
        batch = conformed(cast_table(table, schema.columns(table.column_names)), declaration, path.name)
    if batch.digest != stated.decode("ascii", "replace"):
        raise LedgerCorrupt(
            f"The batch in {shown_name(path)} changed since it was written",
            expected=f"content digest {stated.decode('ascii', 'backslashreplace')[:80]}",
            found=batch.digest,
            todo="restore the file from a backup, and run lindley verify",
        )
    return batch


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
        # Without waiting: a pipe without a writer may have taken the name.
        with open(path, "rb", opener=without_waiting) as file:
            status = os.fstat(file.fileno())
            if not S_ISREG(status.st_mode):
                raise _no_file(name, "a folder" if S_ISDIR(status.st_mode) else "a pipe or a device")
            if status.st_size > limits.file_bytes:
                raise too_big(name, "bytes in the file", limits.file_bytes, status.st_size)
            data = file.read(status.st_size + 1)
            if len(data) > status.st_size:
                raise OSError(errno.EAGAIN, "it grew while it was read")
    except FileNotFoundError as error:
        raise _no_file(name, "no such file") from error
    except (IsADirectoryError, NotADirectoryError) as error:
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
