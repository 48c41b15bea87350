"""Shards: members that one process fits one after another. What crosses processes is the path of a folder.

A folder of work holds the model's code, the options, the rows of the members and where they start, all as
text and Parquet. A worker reads its shard, fits, and writes the rows of its members beside it, whole or not
at all. A result depends on each member's own task only, so that any number of shards, on any engine, gives
the same rows; a shard whose worker died is run again and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from lindley.batch.batch import Batch
from lindley.errors import LedgerCorrupt
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.members.fitting import fit_members
from lindley.inference.members.task import MemberOptions
from lindley.ledger.netcdf import read_matched_prior, write_matched_prior
from lindley.ledger.record import Artifact
from lindley.model.code.stored import write_modules
from lindley.model.declaration import Declaration, load_stored
from lindley.panel.key import read_key
from lindley.panel.row import MemberRow, read_table, rows_of, table_of, write_table
from lindley.panel.work import Common, MemberWork

#: Shards at most, each of which is a task of a flow run.
MOST_SHARDS = 64
_OPTIONS, _POPULATION = "options.json", "population.nc"
_WORK = pa.schema(
    [
        pa.field("key", pa.string(), nullable=False),
        pa.field("sizes", pa.list_(pa.int64()), nullable=False),
        pa.field("digests", pa.list_(pa.string()), nullable=False),
        pa.field("start", pa.bool_(), nullable=False),
        pa.field("own", pa.bool_(), nullable=False),
        pa.field("links", pa.list_(pa.int64()), nullable=False),
        pa.field("stated", pa.string()),
    ]
)
_DRAWS = pa.schema([("key", pa.string()), ("parameter", pa.string()), ("values", pa.list_(pa.float64()))])


def write_shards(
    folder: Path,
    declaration: Declaration,
    common: Common,
    options: MemberOptions,
    work: Sequence[MemberWork],
    shards: int,
) -> int:
    """Write the work of members into an empty folder; return the number of shards.

    Members are dealt out in turn, so that shards take about equally long.
    """
    shards = max(1, min(shards, MOST_SHARDS, len(work)))
    if not declaration.in_memory:
        (folder / Artifact.MODEL).write_text(declaration.source_text, encoding="utf-8")
        if declaration.imports.modules:
            write_modules(declaration.imports.modules, folder / Artifact.MODULES)
    if common.population is not None:
        write_matched_prior(common.population, folder / _POPULATION)
    shared = {"link": common.link, "genesis": common.genesis, "model": common.model}
    how = {"carried": options.carried, "constants": options.constants, "draws": options.draws}
    text = json.dumps(shared | how | {"thresholds": options.thresholds.as_dict()})
    (folder / _OPTIONS).write_text(text, encoding="utf-8")
    for number in range(shards):
        _write_shard(folder / f"{number:03d}", work[number::shards])
    return shards


def _write_shard(folder: Path, work: Sequence[MemberWork]) -> None:
    """Write the work of one shard."""
    folder.mkdir()
    rows = [
        {
            "key": item.key.canonical.decode(),
            "sizes": [batch.rows for batch in item.batches],
            "digests": [batch.digest for batch in item.batches],
            "start": item.start is not None,
            "own": item.own,
            "links": list(item.links),
            "stated": item.stated,
        }
        for item in work
    ]
    write_table(pa.Table.from_pylist(rows, _WORK), folder / "work.parquet")
    tables = [batch.table for item in work for batch in item.batches]
    write_table(pa.concat_tables(tables), folder / "rows.parquet")
    key, origin = work[0].newest.key, work[0].newest.origin
    (folder / "batch.json").write_text(json.dumps({"key": key, "origin": origin}), encoding="utf-8")
    for name in ("before", "start"):
        held = [row for item in work if (row := getattr(item, name)) is not None]
        write_table(table_of(held), folder / f"{name}.parquet")


def fit_shard(folder: Path, number: int, declaration: Declaration | None = None) -> Path:
    """Fit the members of one shard; return the file of their rows.

    Parameters
    ----------
    folder, number
        Where the work is, and the number of the shard.
    declaration
        The panel's, where this process has it; by default it is loaded from the folder, which executes the
        model's code.
    """
    shard = folder / f"{number:03d}"
    result = shard / "result.parquet"
    if result.is_file():  # another worker was faster, or this one is run again
        return result
    shared: dict[str, Any] = json.loads((folder / _OPTIONS).read_text("utf-8"))
    common, options = _shared(folder, shared)
    declaration = declaration or _declaration(folder, shared["model"])
    work = list(_read_shard(shard, declaration))
    fits = fit_members(declaration.member, (common.task(item) for item in work), options)
    rows, draws = list[MemberRow](), list[dict[str, Any]]()
    for item, fit in zip(work, fits, strict=True):
        rows.append(common.row(item, fit))
        key = item.key.canonical.decode()
        draws += [{"key": key, "parameter": name, "values": held} for name, held in fit.draws.items()]
    if options.draws:
        write_table(pa.Table.from_pylist(draws, _DRAWS), shard / "draws.parquet")
    write_table(table_of(rows), result)
    return result


def _shared(folder: Path, shared: dict[str, Any]) -> tuple[Common, MemberOptions]:
    """Return what all members have in common, as the folder holds it."""
    path = folder / _POPULATION
    common = Common(
        link=shared["link"],
        genesis=shared["genesis"],
        model=shared["model"],
        population=read_matched_prior(path) if path.is_file() else None,
    )
    options = MemberOptions(
        carried=tuple(shared["carried"]),
        constants=shared["constants"],
        thresholds=Thresholds(**shared["thresholds"]),
        draws=shared["draws"],
    )
    return common, options


_loaded: dict[str, Declaration] = {}


def _declaration(folder: Path, model: str) -> Declaration:
    """Return the declaration of a folder of work; a process loads each code once."""
    if model not in _loaded:
        modules = folder / Artifact.MODULES
        _loaded[model] = load_stored(folder / Artifact.MODEL, modules if modules.is_file() else None)
    return _loaded[model]


def _read_shard(shard: Path, declaration: Declaration) -> Iterator[MemberWork]:
    """Give the work of one shard."""
    about = json.loads((shard / "batch.json").read_text("utf-8"))
    table, place = read_table(shard / "rows.parquet").replace_schema_metadata(), 0
    held = {
        name: {row.key: row for row in rows_of(read_table(shard / f"{name}.parquet"), declaration.by)}
        for name in ("before", "start")
    }
    for values in read_table(shard / "work.parquet").to_pylist():
        key, batches = read_key(values["key"], declaration.by), list[Batch]()
        for size, digest in zip(values["sizes"], values["digests"], strict=True):
            rows = table.slice(place, size).combine_chunks()
            batches.append(Batch(table=rows, digest=digest, key=tuple(about["key"]), origin=about["origin"]))
            place += size
        yield MemberWork(
            key=key,
            batches=tuple(batches),
            before=held["before"].get(key),
            start=held["start"][key] if values["start"] else None,
            own=values["own"],
            links=tuple(values["links"]),
            stated=values["stated"],
        )


def collect(folder: Path, shards: int, by: tuple[str, ...]) -> list[MemberRow]:
    """Return the rows of all shards, in the order of their keys.

    Raises
    ------
    LedgerCorrupt
        If a shard left no result.
    """
    found: list[MemberRow] = []
    for number in range(shards):
        path = folder / f"{number:03d}" / "result.parquet"
        if not path.is_file():
            raise LedgerCorrupt(
                f"Shard {number} left no result",
                expected="a file with the rows of its members",
                found="none",
                todo="run it again: nothing was written to the ledger",
            )
        found += rows_of(read_table(path), by)
    return sorted(found, key=lambda row: row.key.canonical)


def missing(folder: Path, shards: Iterable[int]) -> list[int]:
    """Return the shards that have no result yet."""
    return [n for n in shards if not (folder / f"{n:03d}" / "result.parquet").is_file()]


def draws_of(folder: Path, shards: int) -> pa.Table | None:
    """Return the draws that the shards kept; None where none did."""
    paths = [folder / f"{number:03d}" / "draws.parquet" for number in range(shards)]
    tables = [read_table(path) for path in paths if path.is_file()]
    order = [("key", "ascending"), ("parameter", "ascending")]
    return pa.concat_tables(tables).sort_by(order).combine_chunks() if tables else None
