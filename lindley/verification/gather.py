"""Read from a ledger what the rules examine: all I/O of the verifier. Nothing that is read is executed."""

from __future__ import annotations

import contextlib
import json
import tempfile
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

from lindley.batch.digest import content_digest
from lindley.batch.parquet_format import read_stored
from lindley.batch.row_keys import key_ranges_of, range_columns
from lindley.errors import LedgerCorrupt, UnknownChain
from lindley.ledger.chain import Version
from lindley.ledger.netcdf import (
    draws_digest,
    file_digests,
    modes_of,
    read_matched_prior,
    read_trace,
    weighted,
)
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain, genesis_of, read_signature
from lindley.ledger.reading import read_table as read_summary
from lindley.ledger.record import Artifact, digest, parse
from lindley.ledger.writing import charts, parameters
from lindley.model.code.digests import source_digest
from lindley.model.code.stored import stored_digests
from lindley.panel.index import ENTRIES, ROOTS, conformed
from lindley.panel.replay import PanelFiles
from lindley.panel.row import read_table, rows_of
from lindley.prior.matched import rematch, rematch_modes
from lindley.prior.matching import MIXTURE
from lindley.verification.case import GatheredChain, GatheredVersion
from lindley.verification.rules import Report
from lindley.verification.verifier import verify

#: The tables of a panel's link.
_PANEL = (Artifact.MEMBERS, Artifact.INDEX, Artifact.ROOTS, Artifact.POINTERS)


def verify_chain(ledger: Ledger, chain: str, vouched: Container[str] = ()) -> Report:
    """Read a chain back and verify it.

    Parameters
    ----------
    ledger, chain
        Where, and the chain's name.
    vouched
        Records of links that a statement made after a complete verification vouches for. Of these, record,
        batch, tags and run are read, no other file. Where one of them has a finding, the whole chain is read.

    Raises
    ------
    UnknownChain
        If the ledger has no such chain.
    """
    gathered = gather(ledger, chain, vouched=vouched)
    report = verify(gathered)
    partly = {item.version.number for item in gathered.versions if item.vouched}
    if report.vouched and any(finding.version in partly for finding in report.findings):
        return verify(gather(ledger, chain))
    return report


def gather(
    ledger: Ledger, chain: str, inside: tuple[str, ...] = (), vouched: Container[str] = ()
) -> GatheredChain:
    """Read everything of a chain that a rule looks at.

    Parameters
    ----------
    ledger, chain
        Where, and the chain's name.
    inside
        Branches that are being read, which continue this chain.
    vouched
        See `verify_chain`.
    """
    genesis: bytes | None = None
    try:
        genesis = genesis_of(ledger, chain)
        stated = digest(genesis)
    except LedgerCorrupt as error:
        stated = error.expected.removeprefix("sha256 ") if error.expected.startswith("sha256 ") else ""
    versions = [
        replace(
            (_vouched_version if version.record in vouched else _gather_version)(ledger, version),
            loaded_from=ledger.loaded_from(chain, version.number),
        )
        for version in ledger.versions(chain)
    ]
    if any(item.record is None for item in versions):  # some may not be the chain's at all
        own = ledger.run_states(chain)
        versions = [replace(item, elsewhere=item.version.run_id not in own) for item in versions]
    gathered = GatheredChain(
        name=chain,
        genesis=genesis,
        genesis_digest=stated,
        versions=tuple(versions),
        head_hint=ledger.head_hint(chain),
        registered_runs=tuple(ledger.registered_runs(chain)),
        home=ledger.home(chain),
    )
    origin = gathered.branch()
    # A branch holds its source's links too. One that names itself, or one that continues it, never ends.
    if origin is None or origin["chain"] in (chain, *inside):
        return gathered
    with contextlib.suppress(UnknownChain):
        return replace(gathered, base=gather(ledger, origin["chain"], (*inside, chain), vouched))
    return gathered


def envelopes(ledger: Ledger, chain: str) -> dict[int, bytes | None]:
    """Read the signature of every link by its number; None where there is none.

    Not by version: those of a branch and of the chain that it continues have the same numbers.
    """
    return {link.number: read_signature(ledger, link) for link in find_chain(ledger, chain).links}


def _with_run(ledger: Ledger, version: Version) -> GatheredVersion:
    """Read the run of a version, without files."""
    state = ledger.run_state(version.run_id) if version.run_id else None
    return GatheredVersion(
        version=version,
        record=None,
        artifacts={},
        run_tags=dict(state.tags) if state else None,
        run_metrics=dict(state.metrics) if state else None,
        run_params=dict(state.params) if state else None,
        run_note=state.note if state else None,
        run_models=ledger.shown_records(version.run_id) if state else {},
        deleted=state.deleted if state else False,
    )


def _vouched_version(ledger: Ledger, version: Version) -> GatheredVersion:
    """Read record and batch of a version whose record a statement vouches for."""
    gathered = replace(_with_run(ledger, version), vouched=True)
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        # The members after a link follow from the rows of all links before it.
        for name in (Artifact.RECORD, Artifact.BATCH, *(_PANEL if "members" in version.metrics else ())):
            with contextlib.suppress(LedgerCorrupt):  # a rule reports what is missing
                ledger.download(version.run_id, Path(scratch), name)
        return _with_files(gathered, Path(scratch), ledger)


def _gather_version(ledger: Ledger, version: Version) -> GatheredVersion:
    """Read one version; a rule reports what is missing or unreadable."""
    gathered = _with_run(ledger, version)
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        try:
            ledger.download(version.run_id, Path(scratch))
        except LedgerCorrupt:
            return gathered
        return _with_files(gathered, Path(scratch), ledger)


def _with_files(gathered: GatheredVersion, folder: Path, ledger: Ledger) -> GatheredVersion:
    """Add what the files of a version hold.

    Digest and key ranges of the batch are recomputed without the chain's schema.
    """
    found: dict[str, Any] = {"artifacts": file_digests(folder)}
    found["artifacts"].pop(Artifact.RECORD, None)
    with contextlib.suppress(OSError):
        found["record"] = (folder / Artifact.RECORD).read_bytes()
    # Damaged and hostile files make the readers raise nearly anything. What cannot be read stays None; rules
    # R06 to R09 report it.
    with contextlib.suppress(Exception):
        table = read_stored(folder / Artifact.BATCH)
        row_key = parse(found["record"])["batch"]["row_key"] if found.get("record") else []
        ranges = key_ranges_of(table, range_columns(table, row_key))
        found |= {"batch": table, "batch_digest": content_digest(table), "key_ranges": ranges}
    if any((folder / name).exists() for name in _PANEL):
        return replace(gathered, **found, **_code_of(folder), panel=_panel_files(folder))
    with contextlib.suppress(Exception):
        record = parse(found["record"])
        # Another table than the record lists is a finding of R06, and states nothing.
        if found["artifacts"][Artifact.SUMMARY] == record["artifacts"][Artifact.SUMMARY]:
            summary = read_summary(folder / Artifact.SUMMARY)
            found["parameters"], found["charts"] = ledger.kept(parameters(record, summary), charts(summary))
    with contextlib.suppress(Exception):
        found["matched"] = read_matched_prior(folder / Artifact.MATCHED_PRIOR)
    with contextlib.suppress(Exception):
        tree = read_trace(folder / Artifact.TRACE)
        found["draws_digest"] = draws_digest(tree)
        u, weight = weighted(tree)
        # A prior of the same family, matched to the draws again.
        found["rematched"] = (
            rematch_modes(*modes_of(tree), found["matched"])
            if found["matched"].family == MIXTURE
            else rematch(u.reshape(-1, u.shape[-1]), weight, found["matched"])
        )
    return replace(gathered, **found, **_code_of(folder))


def _panel_files(folder: Path) -> PanelFiles:
    """Read the tables of a panel's link; those that cannot be read stay None."""
    found: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # see `_with_files`
        found["rows"] = tuple(rows_of(read_table(folder / Artifact.MEMBERS)))
    with contextlib.suppress(Exception):
        found["entries"] = conformed(read_table(folder / Artifact.INDEX), ENTRIES, "members")
    with contextlib.suppress(Exception):
        found["roots"] = conformed(read_table(folder / Artifact.ROOTS), ROOTS, "roots")
    with contextlib.suppress(Exception):
        found["pointers"] = dict(json.loads((folder / Artifact.POINTERS).read_text("utf-8")))
    return PanelFiles(**found)


def _code_of(folder: Path) -> dict[str, Any]:
    """Return the digests of the model's file and of the modules beside it."""
    found: dict[str, Any] = {}
    # Code that is nested too deep is a MemoryError to Python's parser.
    with contextlib.suppress(OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        text = (folder / Artifact.MODEL).read_text(encoding="utf-8")
        found["source"] = source_digest(text)
    with contextlib.suppress(ValueError):
        archive = folder / Artifact.MODULES
        found["modules"] = stored_digests(archive) if archive.is_file() else {}
    return found
