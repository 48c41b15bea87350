"""Predict for a file of any length, some rows at a time."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lindley.errors import BatchRefused, BatchUnreadable, LindleyError
from lindley.ledger.history import Link
from lindley.model.declaration import Declaration
from lindley.names import shown_name
from lindley.report.numbers import QUANTILES

#: Rows that are predicted at a time: each has all draws of the belief.
BLOCK_ROWS = 10_000
_READ_BYTES = 2**20
_SUFFIXES = (".parquet", ".csv", ".csv.gz")


def predict_file(link: Link, source: Path, target: Path, *, seed: int = 0) -> dict[str, Any]:
    """Write predictions for the rows of a file; return what the metadata of the result state.

    Parameters
    ----------
    link
        Which belief predicts, checked against its digests.
    source
        Parquet, or CSV with a header line.
    target
        The Parquet file that is written; it appears whole or not at all. Its columns are variable, row
        (counted from 0 in the file), the row key as far as the file has it, mean, sd and quantiles. Its
        metadata hold, under ``lindley``, chain, link, version, record digest, seed, and sha256 of the file.
    seed
        Of the predictive draws; each block of `BLOCK_ROWS` rows has a stream of its own.

    Raises
    ------
    BatchRefused
        If rows do not fit the schema, or the model cannot predict for some of them without the others.
    BatchUnreadable
        If the file cannot be read.
    LindleyError
        If the target exists or is no Parquet file.
    """
    _require_free(target)
    view = link.view
    stated = {
        "chain": link.chain,
        "link": view.number,
        "version": view.version,
        "record": view.record_digest,
        "seed": seed,
        "file": shown_name(source),
        "sha256": _digest(source),
    }
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=".lindley-", suffix=".parquet", dir=target.parent)
    os.close(handle)
    try:
        rows = _write(link, source, Path(name), seed, stated)
        _require_free(target)  # another process may have written meanwhile
        Path(name).replace(target)
    finally:
        with suppress(FileNotFoundError):
            Path(name).unlink()
    return stated | {"rows": rows}


def _write(link: Link, source: Path, target: Path, seed: int, stated: dict[str, Any]) -> int:
    """Write the predictions of all blocks; return the number of rows."""
    declaration, writer, done = link.predictor.declaration, None, 0
    metadata = {b"lindley": json.dumps(stated, sort_keys=True).encode()}
    try:
        for number, block in enumerate(_blocks(source, declaration)):
            if number and declaration.in_order:
                raise BatchRefused(
                    f"The rows of {declaration.name} depend on the rows before them",
                    expected=f"at most {BLOCK_ROWS:,} rows in one file",
                    found="more",
                    todo="predict for some of the rows at a time, each file with the rows that it needs",
                )
            for part in _predicted(link, block, _seed_of(seed, number), done):
                table = _table(part, block, declaration, done)
                writer = writer or pq.ParquetWriter(target, table.schema.with_metadata(metadata))
                writer.write_table(table)
            done += len(block)
    finally:
        if writer is not None:
            writer.close()
    if not done:
        raise BatchRefused("The file has no rows to predict for", expected="at least one row", found="none")
    return done


def _seed_of(seed: int, block: int) -> int:
    """Return the seed of a block; the first one has that of the file."""
    return int(np.random.SeedSequence([seed, block]).generate_state(1)[0]) if block else seed


def _predicted(link: Link, block: pa.Table, seed: int, done: int) -> list[dict[str, Any]]:
    """Predict for a block; what is refused is said with its place in the file."""
    try:
        return link.predictor.columns(block.to_pandas(), seed=seed)
    except BatchRefused as error:
        if not done:
            raise
        raise BatchRefused(
            f"In the rows after the first {done:,}: {error.happened}",
            expected=error.expected,
            found=error.found,
            todo=error.todo,
        ) from error


def _table(part: dict[str, Any], block: pa.Table, declaration: Declaration, done: int) -> pa.Table:
    """Return the predictions of one variable for a block, with the row keys as the file has them."""
    if len(part["mean"]) != len(block):
        raise BatchRefused(
            f"{part['variable']} has not one value for each row",
            expected="a variable that is predicted row by row",
            found=f"{len(part['mean'])} values for {len(block)} rows",
            todo="predict with `Link.predict` in Python, all rows at once",
        )
    taken = {"variable", "row", "mean", "sd", *QUANTILES}
    columns: dict[str, Any] = {
        "variable": pa.array([part["variable"]] * len(block), pa.string()),
        "row": pa.array(np.arange(done, done + len(block))),
    }
    for key in declaration.row_key:
        if key in block.column_names:
            columns[f"key_{key}" if key in taken else key] = block.column(key)
    return pa.table(
        columns | {name: pa.array(part[name], pa.float64()) for name in ("mean", "sd", *QUANTILES)}
    )


def _blocks(source: Path, declaration: Declaration) -> Iterator[pa.Table]:
    """Yield the rows of a file, some at a time; CSV as text, which the schema reads."""
    try:
        if source.name.endswith(".parquet"):
            with pq.ParquetFile(source) as file:
                for batch in file.iter_batches(BLOCK_ROWS):
                    yield pa.Table.from_batches([batch])
            return
        missing: Sequence[str] = ("", *declaration.missing)
        frames = pd.read_csv(
            source, dtype=str, keep_default_na=False, na_values=list(missing), chunksize=BLOCK_ROWS
        )
        with frames:
            for frame in frames:
                yield pa.table({name: pa.array(frame[name], pa.string(), from_pandas=True) for name in frame})
    except LindleyError:
        raise
    except (OSError, ValueError, pa.ArrowException, EOFError) as error:
        raise BatchUnreadable(
            f"{shown_name(source)} cannot be read",
            expected="Parquet, or CSV with a header line, plain or gzipped",
            found=f"{type(error).__name__}: {error}"[:200],
            todo="correct the file",
        ) from error


def _digest(source: Path) -> str:
    """Return the sha256 of a file's bytes."""
    if not source.name.endswith(_SUFFIXES) or not source.is_file():
        raise BatchUnreadable(
            f"{shown_name(source)} cannot be predicted for",
            expected=f"a file that ends in {', '.join(_SUFFIXES)}",
            found="no file" if not source.is_file() else source.suffix or "no ending",
            todo="correct the path",
        )
    found = hashlib.sha256()
    with source.open("rb") as file:
        while data := file.read(_READ_BYTES):
            found.update(data)
    return found.hexdigest()


def _require_free(target: Path) -> None:
    if target.suffix != ".parquet" or target.exists():
        raise LindleyError(
            "The predictions have no place to go",
            expected="--out with a new file that ends in .parquet: its metadata name the belief",
            found=f"{shown_name(target)}, which {'exists' if target.exists() else 'ends otherwise'}",
            todo="name another file with --out",
        )
