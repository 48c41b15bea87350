"""Links that have an earlier link's belief, bit for bit, without a fit of their own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lindley.errors import LedgerCorrupt
from lindley.inference.diagnostics import Gate
from lindley.ledger import artifact_names
from lindley.ledger.chain import ChainLink
from lindley.ledger.netcdf import file_digests
from lindley.ledger.protocol import Ledger, Run
from lindley.ledger.reading import read_record
from lindley.ledger.record import SCHEMA, canonical, digest
from lindley.ledger.references import shown
from lindley.ledger.writing import LoggedLink, RunContext, run_tags, store_run
from lindley.report.note import NotedLink, link_note
from lindley.timing import FETCH, LOG, Phases


def log_copy(
    ledger: Ledger,
    target: ChainLink,
    *,
    chain: str,
    kind: str,
    previous: str,
    link: int,
    retracted: Sequence[ChainLink] = (),
    phases: Phases | None = None,
    context: RunContext,
) -> LoggedLink:
    """Write a link with the belief of `target`, read it back and verify; it is not registered yet.

    Parameters
    ----------
    target
        The link whose belief it has.
    chain, kind, previous
        Of the new link.
    link
        Number it will have if it wins.
    retracted
        The links whose batches are taken out.
    phases
        Seconds by phase so far; those of this are added.
    context
        The flow run.

    Raises
    ------
    LedgerCorrupt
        If what is held of `target` is not what its record lists, or what was read back is not what was
        written.
    KeyRefused
        If the environment names a key for signatures that cannot be used.
    """
    phases = phases or Phases()
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        folder = Path(scratch)
        with phases(FETCH):
            held = read_record(ledger, target)
            artifacts = _fetch(ledger, target, held, folder)
        record = held | {
            "schema": SCHEMA,
            "kind": kind,
            "chain": chain,
            "previous": previous,
            "prior": target.version.record,
            "prior_belief": held["posterior"]["matched"],
            "replayed": [],
            "retracted": [gone.version.record for gone in retracted],
            "batch": None,
            "artifacts": artifacts,
        }
        data = canonical(record)
        (folder / artifact_names.RECORD).write_bytes(data)
        note = _note(folder, record, digest(data), link, target, retracted)
        run = Run(
            name=f"{chain} {link}: {kind}, belief of link {target.number}"[:200],
            params={"belief of": target.version.record},
            metrics=dict(record["metrics"]) | phases.metrics(),
            tags=run_tags(record, digest(data), context),
            note=note,
        )
        with phases(LOG):
            run_id = store_run(ledger, run, folder, record, link)
    return LoggedLink(chain, run_id, record, digest(data), previous, note, phases)


def _fetch(ledger: Ledger, target: ChainLink, record: dict[str, Any], folder: Path) -> dict[str, str]:
    """Fetch the files of a link except its batch, and check them; return their digests."""
    ledger.download(target.version.run_id, folder)
    wanted = {path: held for path, held in record["artifacts"].items() if path != artifact_names.BATCH}
    found = file_digests(folder)
    wrong = sorted(path for path in wanted if found.get(path) != wanted[path])
    if wrong:
        raise LedgerCorrupt(
            f"The artifacts of link {target.number} are not those that its record lists",
            expected=f"sha256 {wanted[wrong[0]]} of {wrong[0]}",
            found=f"other content of {', '.join(wrong[:5])}",
            todo="run `lindley verify`; restore the artifacts from a backup",
        )
    for path in found.keys() - wanted.keys():
        (folder / path).unlink()
    # Pictures are drawn anew from the copy's trace; nothing is left to upload where they were.
    with contextlib.suppress(OSError):
        (folder / artifact_names.PLOTS).rmdir()
    return wanted


def _note(
    folder: Path,
    record: dict[str, Any],
    record_digest: str,
    link: int,
    target: ChainLink,
    retracted: Sequence[ChainLink],
) -> str:
    """Write the link's note."""
    noted = NotedLink(
        chain=record["chain"],
        kind=record["kind"],
        number=link,
        prior=target.number,
        taken_out=[shown(gone) for gone in retracted],
    )
    return link_note(
        pd.read_csv(folder / artifact_names.SUMMARY, index_col="parameter"),
        noted,
        Gate(**record["gate"]),
        digests={"record": record_digest, "previous": record["previous"], "prior": record["prior"]},
    )
