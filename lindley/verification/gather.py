"""Gathering from a ledger what the verifier needs. Nothing that is read is executed."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import xarray as xr

from lindley.batch.batch import key_ranges_of
from lindley.batch.digest import content_digest
from lindley.batch.parquet_format import read_stored
from lindley.errors import LedgerCorrupt, UnknownChain
from lindley.ledger import artifact_names
from lindley.ledger.chain import Version
from lindley.ledger.netcdf import draws_digest, file_digests, read_matched_prior, read_trace
from lindley.ledger.protocol import Ledger
from lindley.ledger.record import digest, parse
from lindley.model.declaration import source_digest
from lindley.names import check_chain_name
from lindley.prior.matched import MatchedPrior, rematch
from lindley.verification.case import GatheredChain, GatheredVersion
from lindley.verification.verifier import Report, verify


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
        genesis = ledger.genesis(check_chain_name(chain))
        if genesis is None:
            raise UnknownChain(
                f"There is no chain {chain!r}",
                expected=f"one of: {', '.join(ledger.chains()[:20]) or 'none yet'}",
                found=repr(chain),
                todo="correct the name, or update the chain with its first batch",
            )
        stated = digest(genesis)
    except LedgerCorrupt as error:
        stated = error.expected.removeprefix("sha256 ") if error.expected.startswith("sha256 ") else ""
    versions = ledger.versions(chain)
    evidence = GatheredChain(
        name=chain,
        genesis=genesis,
        genesis_digest=stated,
        versions=tuple(_gather_version(ledger, version) for version in versions),
        head_hint=ledger.head_hint(chain),
        registered_runs=tuple(ledger.registered_runs(chain)),
    )
    origin = evidence.branch()
    # A branch holds its source's links too. One that names itself, or one behind it, never ends.
    if origin is None or origin["chain"] in (chain, *inside):
        return evidence
    with contextlib.suppress(UnknownChain):
        return replace(evidence, base=gather(ledger, origin["chain"], (*inside, chain)))
    return evidence


def _gather_version(ledger: Ledger, version: Version) -> GatheredVersion:
    """Read one version; what is missing or unreadable is left out and found by a rule."""
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
        evidence = GatheredVersion(
            version=version,
            record=record,
            artifacts=artifacts,
            batch=table,
            batch_digest=content,
            key_ranges=ranges,
            run_tags=tags,
            run_metrics=metrics,
        )
        return _with_posterior(evidence, folder)


def _with_posterior(evidence: GatheredVersion, folder: Path) -> GatheredVersion:
    """Add the draws, the matched prior and the model's code."""
    matched: MatchedPrior | None = None
    rematched = drawn = code = None
    # Damaged and hostile files make the readers raise nearly anything. What cannot be read stays None, and
    # rules R06 to R09 name it.
    with contextlib.suppress(Exception):
        matched = read_matched_prior(folder / artifact_names.MATCHED_PRIOR)
    with contextlib.suppress(Exception):
        tree = read_trace(folder / artifact_names.TRACE)
        drawn = draws_digest(tree)
        rematched = _rematch(tree, matched)
    # Code that is nested too deep is a MemoryError to Python's parser.
    with contextlib.suppress(OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        code = source_digest((folder / artifact_names.MODEL).read_text(encoding="utf-8"))
    return GatheredVersion(
        **{name: getattr(evidence, name) for name in evidence.__dataclass_fields__}
        | {"matched": matched, "rematched": rematched, "draws_digest": drawn, "model_digest": code}
    )


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
    """Read a batch's table and compute digest and key ranges anew, without the chain's schema."""
    if not path.is_file():
        return None, None, None
    try:
        table = read_stored(path)
        row_key = parse(record)["batch"]["row_key"] if record else []
        known = [name for name in row_key if name in table.column_names]
        return table, content_digest(table), key_ranges_of(table, known)
    except Exception:  # as above
        return None, None, None
