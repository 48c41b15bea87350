"""The files and the record of a link, made in a folder before anything reaches the ledger."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from lindley.batch.batch import Batch, write_batch
from lindley.batch.digest import content_digest
from lindley.inference.diagnostics import Gate
from lindley.ledger.artifact_names import AUDIT, BATCH, MATCHED_PRIOR, MODEL, RECORD, SUMMARY, TRACE
from lindley.ledger.netcdf import draws_digest, file_digests, write_matched_prior, write_netcdf, write_trace
from lindley.ledger.record import SCHEMA, canonical, digest
from lindley.model.declaration import Declaration
from lindley.prior.matched import MatchedPrior
from lindley.serving.predict import serving_draws

#: Libraries whose versions can change a fit.
_LIBRARIES = (
    "lindley",
    "pymc",
    "pytensor",
    "nutpie",
    "numba",
    "numpy",
    "scipy",
    "arviz-stats",
    "xarray",
    "pyarrow",
    "pandas",
)


@dataclass(frozen=True)
class Content:
    """What a link consists of, whatever its kind.

    Parameters
    ----------
    kind
        See `lindley.ledger.record.KINDS`.
    previous, prior
        Record digests of the head it succeeds and of the link whose posterior was its prior.
    prior_belief
        Digest of the matched prior that was used; None for the model's own priors.
    replayed
        Record digests of the links whose batches were fitted again, oldest first.
    retracted
        Record digests of the links whose batches are taken out.
    batch
        The batch; None for a link without one of its own.
    sampler, thresholds, figures
        As they go into the record.
    model
        Code, graph, carried variables and state of the model, as they go into the record.
    match
        What the record says of the match beside family and moments: ``distances``, ``doubts``, ``pooled``.
    forgetting
        Discounts, scores and what the next link goes by; empty where nothing is forgotten.
    newest
        The newest batch where that is not the link's own: what a prediction may follow.
    audit
        The head beside a pooled refit (see `lindley.operations.rebase.audit_table`); None for other kinds.
    """

    declaration: Declaration
    kind: str
    previous: str
    prior: str
    prior_belief: str | None
    replayed: tuple[str, ...]
    batch: Batch | None
    matched: MatchedPrior
    trace: xr.DataTree
    summary: pd.DataFrame
    gate: Gate
    metrics: dict[str, float]
    sampler: dict[str, Any]
    thresholds: dict[str, float]
    model: dict[str, Any]
    match: dict[str, Any]
    forgetting: dict[str, Any] = field(default_factory=dict)
    retracted: tuple[str, ...] = ()
    newest: Batch | None = None
    audit: pd.DataFrame | None = None


def write(
    content: Content,
    folder: Path,
    package: Callable[[Path, Declaration, Path, pd.DataFrame], None],
) -> dict[str, Any]:
    """Write every file of a link below `folder` and return its record; the record is written last.

    Pictures are not among them: they are drawn from the stored trace (`lindley.operations.plots`).

    Parameters
    ----------
    content
        The link.
    folder
        An empty folder.
    package
        `Ledger.package`: adds what the registry needs to serve the belief.
    """
    declaration = content.declaration
    (folder / MODEL).write_text(declaration.source_text, encoding="utf-8")
    if content.batch is not None:
        write_batch(content.batch, folder / BATCH)
    write_matched_prior(content.matched, folder / MATCHED_PRIOR)
    write_trace(content.trace, folder / TRACE)
    write_csv(content.summary, folder / SUMMARY)
    if content.audit is not None:
        write_csv(content.audit, folder / AUDIT)
    scratch = folder / ".serving"
    scratch.mkdir()
    draws = scratch / "draws.nc"
    served = serving_draws(
        content.trace,
        declaration,
        content.matched.coordinates,
        constants=content.model["constants"],
        context=_context_of_the_next(content.newest or content.batch, declaration),
    )
    write_netcdf(served, draws)
    package(folder, declaration, draws, content.summary)
    for path in scratch.iterdir():
        path.unlink()
    scratch.rmdir()
    record = _record(content, file_digests(folder))
    (folder / RECORD).write_bytes(canonical(record))
    return record


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table of parameters at full precision.

    Lines end as RFC 4180 has it: a carriage return in a label is then quoted, and cannot begin a line that a
    spreadsheet takes for a formula. Labels stand behind their variable's name, so no cell begins with one.
    """
    frame.to_csv(path, lineterminator="\r\n")


def _context_of_the_next(batch: Batch | None, declaration: Declaration) -> pd.DataFrame | None:
    """Return the last rows so far, which a prediction's model conditions on; None where it needs none."""
    if batch is None or not declaration.context:
        return None
    before = batch.context_frame()
    rows = batch.frame() if before is None else pd.concat([before, batch.frame()], ignore_index=True)
    return rows.tail(declaration.context).reset_index(drop=True)


def record_digest(record: dict[str, Any]) -> str:
    """Return a record's digest: the identity of its link."""
    return digest(canonical(record))


@cache  # what is imported stays, whatever is installed meanwhile
def _version_of(name: str) -> str:
    return version(name)


def libraries() -> dict[str, str]:
    """Return the versions of Python and of every library that can change a fit."""
    return {"python": platform.python_version()} | {name: _version_of(name) for name in _LIBRARIES}


def _record(content: Content, artifacts: dict[str, str]) -> dict[str, Any]:
    batch = content.batch
    return {
        "schema": SCHEMA,
        "kind": content.kind,
        "chain": content.declaration.name,
        "previous": content.previous,
        "prior": content.prior,
        "prior_belief": content.prior_belief,
        "replayed": list(content.replayed),
        "retracted": list(content.retracted),
        "model": content.model,
        "batch": None
        if batch is None
        else {
            "digest": batch.digest,
            "rows": batch.rows,
            "row_key": list(batch.key),
            "key_ranges": batch.key_ranges(),
            "origin": batch.origin[:200],
            "context": None
            if batch.context is None
            else {"rows": batch.context.num_rows, "digest": content_digest(batch.context)},
            "dropped": batch.dropped.as_dict() if batch.dropped is not None else None,
        },
        "posterior": {
            "family": content.matched.family,
            "reason": content.matched.reason,
            "moments": content.matched.moments,
            "shrinkage": content.matched.shrinkage,
            "distances": content.match["distances"],
            "doubts": content.match["doubts"],
            "pooled": content.match["pooled"],
            "coordinates": content.matched.coordinates.as_list(),
            "matched": content.matched.digest,
            "draws": draws_digest(content.trace),
        },
        "policy": content.declaration.policy.as_dict(),
        "forgetting": content.forgetting,
        "sampler": content.sampler,
        "thresholds": content.thresholds,
        "metrics": content.metrics,
        "gate": content.gate.as_dict(),
        "libraries": libraries(),
        "artifacts": artifacts,
    }
