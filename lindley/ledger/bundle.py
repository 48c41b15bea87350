"""The files and the record of a link, written to a folder before anything reaches the ledger."""

from __future__ import annotations

import platform
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from lindley.batch.batch import Batch, write_batch
from lindley.batch.digest import content_digest
from lindley.ledger.netcdf import draws_digest, file_digests, write_draws, write_matched_prior, write_trace
from lindley.ledger.record import SCHEMA, Artifact, canonical, digest
from lindley.model.code.stored import write_modules
from lindley.model.declaration import Declaration
from lindley.serving.draws import serving_draws
from lindley.serving.inputs import example_rows

if TYPE_CHECKING:
    from lindley.inference.info import Info

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


@dataclass(frozen=True, kw_only=True)
class Content:
    """What a link consists of, whatever its kind.

    Parameters
    ----------
    declaration
        The chain's declaration.
    kind
        See `lindley.ledger.record.Kind`.
    previous, prior
        Record digests of the head it succeeds and of the link whose posterior was its prior.
    carried, constants
        Names of the carried variables, and frozen constants of preprocessing.
    info
        The fit, or the adopted trace, with everything that the record states of it.
    replayed
        Record digests of the links whose batches were fitted again, oldest first.
    retracted, joined
        Record digests of what is taken out, and of the quarantined versions whose batches now count.
    batch
        The batch; None for a link without one of its own.
    source
        Where a pull read the rows, as in the record; None for links that no pull made.
    structure
        Of the model; see `lindley.model.structure`.
    newest
        The newest batch where that is not the link's own; predictions continue from it.
    audit
        The head beside a pooled refit (see `lindley.operations.audit.audit_table`); None for other kinds.
    """

    declaration: Declaration
    kind: str
    previous: str
    prior: str
    carried: tuple[str, ...]
    constants: dict[str, float]
    info: Info
    replayed: tuple[str, ...] = ()
    retracted: tuple[str, ...] = ()
    joined: tuple[str, ...] = ()
    batch: Batch | None = None
    source: dict[str, Any] | None = None
    structure: str = ""
    newest: Batch | None = None
    audit: pd.DataFrame | None = None


def write(
    content: Content,
    folder: Path,
    package: Callable[[Path, Declaration, Path | None, pd.DataFrame | None], None],
) -> dict[str, Any]:
    """Write every file of a link below `folder` and return its record; the record is written last.

    Plots are not among them: they are drawn from the stored trace (`lindley.operations.plots`).

    Parameters
    ----------
    content
        The link.
    folder
        An empty folder.
    package
        `Ledger.package`: adds what the registry needs to serve the belief.
    """
    declaration, info = content.declaration, content.info
    matched = info.fit.belief.matched
    (folder / Artifact.MODEL).write_text(declaration.source_text, encoding="utf-8")
    if declaration.imports.modules:
        write_modules(declaration.imports.modules, folder / Artifact.MODULES)
    if content.batch is not None:
        write_batch(content.batch, folder / Artifact.BATCH)
    write_matched_prior(matched, folder / Artifact.MATCHED_PRIOR)
    write_trace(info.trace, folder / Artifact.TRACE)
    write_csv(info.summary, folder / Artifact.SUMMARY)
    if content.audit is not None:
        write_csv(content.audit, folder / Artifact.AUDIT)
    served = serving_draws(
        info.trace,
        declaration,
        matched.coordinates,
        constants=content.constants,
        context=_context_of_the_next(content.newest or content.batch, declaration),
    )
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        draws = Path(scratch) / "draws.nc"
        write_draws(served, draws)
        newest = content.newest or content.batch
        package(folder, declaration, draws, example_rows(newest.table, declaration) if newest else None)
    record = _record(content, file_digests(folder))
    (folder / Artifact.RECORD).write_bytes(canonical(record))
    return record


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a table of parameters at full precision.

    Lines end as in RFC 4180: a carriage return in a label is then quoted, and cannot begin a line that a
    spreadsheet reads as a formula. Labels follow their variable's name, so no cell begins with one.
    """
    frame.to_csv(path, lineterminator="\r\n")


def _context_of_the_next(batch: Batch | None, declaration: Declaration) -> pd.DataFrame | None:
    """Return the last rows so far, on which a prediction's model conditions; None where it needs none."""
    if batch is None or not declaration.context:
        return None
    before = batch.context_frame()
    rows = batch.frame() if before is None else pd.concat([before, batch.frame()], ignore_index=True)
    return rows.tail(declaration.context).reset_index(drop=True)


def record_digest(record: dict[str, Any]) -> str:
    """Return a record's digest: the identity of its link."""
    return digest(canonical(record))


@cache  # the imported version stays, even if another one is installed meanwhile
def version_of(name: str) -> str:
    """Return the version of an installed distribution."""
    return version(name)


def libraries() -> dict[str, str]:
    """Return the versions of Python and of every library that can change a fit."""
    return {"python": platform.python_version()} | {name: version_of(name) for name in _LIBRARIES}


def _record(content: Content, artifacts: dict[str, str]) -> dict[str, Any]:
    """Return the record of a link; this is the only place that builds one from a fit."""
    declaration, info, fit = content.declaration, content.info, content.info.fit
    belief, assessment, provenance = fit.belief, fit.assessment, fit.provenance
    return {
        "schema": SCHEMA,
        "kind": content.kind,
        "chain": declaration.name,
        "previous": content.previous,
        "prior": content.prior,
        "prior_belief": provenance.started_from,
        "replayed": list(content.replayed),
        "retracted": list(content.retracted),
        "joined": list(content.joined),
        "source": content.source,
        "decision": None,
        "model": {
            "digest": declaration.model_digest,
            "imports": declaration.imports.as_dict(),
            "structure": content.structure,
            "graph": provenance.graph,
            "carried": list(content.carried),
            "carry": dict(declaration.carry),
            "likelihood": info.likelihood,
            "genesis": info.genesis,
            "inlined_constants": provenance.inlined_constants,
            "not_drawn": info.not_drawn,
            "rows": info.meaning.as_dict(),
            "constants": content.constants,
        },
        "batch": None if content.batch is None else batch_entry(content.batch),
        "posterior": {
            "family": belief.matched.family,
            "reason": belief.matched.reason,
            "moments": belief.matched.moments,
            "shrinkage": belief.matched.shrinkage,
            "distances": assessment.distances,
            "doubts": list(assessment.doubts),
            "pooled": provenance.pooled,
            "coordinates": belief.matched.coordinates.as_list(),
            "matched": belief.matched.digest,
            "draws": draws_digest(info.trace),
        },
        "policy": declaration.policy.as_dict(),
        "hindsight": {"in_sight": belief.sight, "unseen": asdict(belief.unseen)},
        "forgetting": belief.forgetting,
        "monitor": belief.monitor or None,
        "sampler": provenance.sampler,
        "attempts": list(provenance.attempts),
        "thresholds": assessment.thresholds.as_dict(),
        "metrics": assessment.metrics,
        "gate": assessment.gate.as_dict(),
        "libraries": libraries(),
        "artifacts": artifacts,
    }


def batch_entry(batch: Batch) -> dict[str, Any]:
    """Return the record's entry on a link's own batch."""
    context, dropped, changes = batch.context, batch.dropped, batch.changes
    return {
        "digest": batch.digest,
        "rows": batch.rows,
        "row_key": list(batch.key),
        "key_ranges": batch.key_ranges(),
        "origin": batch.origin[:200],
        "context": None if context is None else {"rows": context.num_rows, "digest": content_digest(context)},
        "dropped": None if dropped is None else dropped.as_dict(),
        "changes": None if changes is None else changes.as_dict(),
        "object": None if batch.object is None else dict(batch.object),
    }
