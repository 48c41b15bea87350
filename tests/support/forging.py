"""Changing what a `MemoryLedger` holds, as someone with access to the database and the files could."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pandas as pd

from lindley.ledger.chain import version_tags
from lindley.ledger.record import Artifact, canonical, digest, parse
from lindley.ledger.writing import charts, parameters, whole_note
from lindley.report.note import without_foot
from tests.support.fakes import MemoryLedger

Record = dict[str, Any]
Edit = Callable[[Record], None]


def record_of(ledger: MemoryLedger, chain: str, number: int) -> Record:
    """Return the record of a version."""
    return parse(ledger.run_of(chain, number).files[Artifact.RECORD])


def forge(
    ledger: MemoryLedger,
    chain: str,
    number: int,
    edit: Edit | None = None,
    *,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Change a version and everything that depends on it alone.

    The record lists the changed files; the tags of version and run state the changed record; the run's
    metrics and parameters are the record's. What other links state of it stays as it was.
    """
    run, version = ledger.run_of(chain, number), ledger.models[chain].versions[number]
    record = copy.deepcopy(record_of(ledger, chain, number))
    run.files |= dict(files or {})
    record["artifacts"] = {name: digest(data) for name, data in run.files.items() if name != Artifact.RECORD}
    if edit is not None:
        edit(record)
    run.files[Artifact.RECORD] = canonical(record)
    version.tags = version_tags(record, digest(run.files[Artifact.RECORD]))
    run.tags |= version.tags
    run.metrics |= {name: float(value) for name, value in record["metrics"].items()}
    table = pd.read_csv(io.BytesIO(run.files[Artifact.SUMMARY]), index_col="parameter")
    run.metrics |= charts(table)
    run.params = parameters(record, table)
    addresses = {"flow run": run.tags.get("lindley.flow_run_url", "")}
    text = without_foot(run.note)
    run.note = whole_note(text, record, version.tags["lindley.record"], addresses)
    version.description = run.note


def replaced(value: Any, path: tuple[str | int, ...], other: Any) -> Any:
    """Return a copy of a JSON value with another value in one place."""
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = other
    return changed


def another(value: Any, path: tuple[str | int, ...]) -> Any:
    """Return a value of the same type that is not the same; `path` says where in a record it stands."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        is_digest = len(value) == 64 and set(value) <= set("0123456789abcdef")
        return ("0" if value[0] != "0" else "1") + value[1:] if is_digest else f"{value}x"
    if path == ("decision",):
        return {"candidate": "0" * 64, "verdict": "approved", "who": "Eve", "why": "because"}
    if value is None:
        return "0" * 64
    if isinstance(value, dict):
        return {"x": "y"}
    return {"shape": [1], "value_shape": [1], "labels": [["x"]]}.get(str(path[-1]), ["x"])


def each_leaf(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    """Give the path and value of every leaf of a JSON value; an empty list or object is a leaf."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = False
    for key, item in items:
        found = True
        yield from each_leaf(item, (*path, key))
    if not found:
        yield path, value
