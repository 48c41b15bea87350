"""Read from a ledger what the rules examine: all I/O of the verifier. Nothing that is read is executed."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import xarray as xr

from lindley.batch.digest import content_digest
from lindley.batch.key_ranges import key_ranges_of
from lindley.batch.parquet_format import read_stored
from lindley.errors import LedgerCorrupt, UnknownChain
from lindley.ledger import artifact_names
from lindley.ledger.chain import Version
from lindley.ledger.netcdf import draws_digest, file_digests, read_matched_prior, read_trace
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain, genesis_of
from lindley.ledger.record import digest, parse
from lindley.model.declaration import source_digest
from lindley.prior.matched import MatchedPrior, rematch
from lindley.verification.case import GatheredChain, GatheredVersion
from lindley.verification.rules import Report
from lindley.verification.verifier import verify


def verify_chain(ledger: Ledger, chain: str) -> Report:
    """Read a chain back and verify it.

    Raises
    ------
    UnknownChain
        If the ledger has no such chain.
    """
    return verify(gather(ledger, chain))


def gather(ledger: Ledger, chain: str, inside: tuple[str, ...] = ()) -> GatheredChain:
    """Read everything of a chain that a rule looks at.

    Parameters
    ----------
    ledger, chain
        Where, and the chain's name.
    inside
        Branches that are being read, which continue this chain.
    """
    genesis: bytes | None = None
    try:
        genesis = genesis_of(ledger, chain)
        stated = digest(genesis)
    except LedgerCorrupt as error:
        stated = error.expected.removeprefix("sha256 ") if error.expected.startswith("sha256 ") else ""
    versions = ledger.versions(chain)
    gathered = GatheredChain(
        name=chain,
        genesis=genesis,
        genesis_digest=stated,
        versions=tuple(_gather_version(ledger, version) for version in versions),
        head_hint=ledger.head_hint(chain),
        registered_runs=tuple(ledger.registered_runs(chain)),
    )
    origin = gathered.branch()
    # A branch holds its source's links too. One that names itself, or one that continues it, never ends.
    if origin is None or origin["chain"] in (chain, *inside):
        return gathered
    with contextlib.suppress(UnknownChain):
        return replace(gathered, base=gather(ledger, origin["chain"], (*inside, chain)))
    return gathered


def runs_of(ledger: Ledger, chain: str) -> dict[int, str]:
    """Return the run of each link by its number."""
    return {link.number: link.version.run_id for link in find_chain(ledger, chain).links}


def envelopes(ledger: Ledger, report: Report) -> dict[int, bytes | None]:
    """Read the signature of every link by its number; None where there is none.

    Not by version: those of a branch and of the chain that it continues have the same numbers.
    """
    runs = runs_of(ledger, report.chain)
    found: dict[int, bytes | None] = {}
    for line in report.links:
        with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
            try:
                path = ledger.download(runs[line["link"]], Path(scratch), artifact_names.SIGNATURE)
                found[line["link"]] = path.read_bytes()
            except (LedgerCorrupt, KeyError, OSError):
                found[line["link"]] = None
    return found


def _gather_version(ledger: Ledger, version: Version) -> GatheredVersion:
    """Read one version; a rule reports what is missing or unreadable."""
    state = ledger.run_state(version.run_id) if version.run_id else None
    tags = dict(state.tags) if state else None
    metrics = dict(state.metrics) if state else None
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        folder = Path(scratch)
        try:
            ledger.download(version.run_id, folder)
        except LedgerCorrupt:
            return GatheredVersion(
                version=version, record=None, artifacts={}, run_tags=tags, run_metrics=metrics
            )
        artifacts = file_digests(folder)
        artifacts.pop(artifact_names.RECORD, None)
        record = _bytes(folder / artifact_names.RECORD)
        table, content, ranges = _read_batch(folder / artifact_names.BATCH, record)
        gathered = GatheredVersion(
            version=version,
            record=record,
            artifacts=artifacts,
            batch=table,
            batch_digest=content,
            key_ranges=ranges,
            run_tags=tags,
            run_metrics=metrics,
        )
        return _with_posterior(gathered, folder)


def _with_posterior(gathered: GatheredVersion, folder: Path) -> GatheredVersion:
    """Add the draws, the matched prior and the model's code."""
    matched: MatchedPrior | None = None
    rematched = drawn = code = None
    # Damaged and hostile files make the readers raise nearly anything. What cannot be read stays None; rules
    # R06 to R09 report it.
    with contextlib.suppress(Exception):
        matched = read_matched_prior(folder / artifact_names.MATCHED_PRIOR)
    with contextlib.suppress(Exception):
        tree = read_trace(folder / artifact_names.TRACE)
        drawn = draws_digest(tree)
        rematched = _rematch(tree, matched)
    # Code that is nested too deep is a MemoryError to Python's parser.
    with contextlib.suppress(OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        code = source_digest((folder / artifact_names.MODEL).read_text(encoding="utf-8"))
    return replace(gathered, matched=matched, rematched=rematched, draws_digest=drawn, model_digest=code)


def _rematch(tree: xr.DataTree, matched: MatchedPrior | None) -> MatchedPrior | None:
    """Match a prior of the same family to the draws again."""
    if matched is None:
        return None
    group = tree["coordinates"]
    u = np.asarray(group["u"].values)
    flat = u.reshape(-1, u.shape[-1])
    # Imported draws have no weights: they count equally.
    if "weight" in group:
        return rematch(flat, np.asarray(group["weight"].values).ravel(), matched)
    return rematch(flat, np.full(len(flat), 1 / len(flat)), matched)


def _bytes(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _read_batch(
    path: Path, record: bytes | None
) -> tuple[pa.Table | None, str | None, dict[str, list[str]] | None]:
    """Read a batch's table and recompute digest and key ranges, without the chain's schema."""
    if not path.is_file():
        return None, None, None
    try:
        table = read_stored(path)
        row_key = parse(record)["batch"]["row_key"] if record else []
        known = [name for name in row_key if name in table.column_names]
        return table, content_digest(table), key_ranges_of(table, known)
    except Exception:  # as above
        return None, None, None
