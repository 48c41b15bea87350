"""Links that have an earlier link's belief, bit for bit, without a fit of their own."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from lindley.errors import LedgerCorrupt
from lindley.ledger import artifact_names
from lindley.ledger.chain import ChainLink
from lindley.ledger.netcdf import file_digests
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_record
from lindley.ledger.record import SCHEMA, canonical
from lindley.ledger.writing import Draft, LoggedLink, RunContext, log_draft
from lindley.report.note import NotedLink
from lindley.timing import FETCH, Phases


def log_copy(
    ledger: Ledger,
    target: ChainLink,
    noted: NotedLink,
    *,
    previous: str,
    retracted: Sequence[str] = (),
    phases: Phases,
    context: RunContext,
) -> LoggedLink:
    """Write a link with the belief of `target`, read it back and verify; it is not registered yet.

    Parameters
    ----------
    target
        The link whose belief it has.
    noted
        The new link as its note presents it.
    previous, retracted
        Record digests of the head that it succeeds, and of the links whose batches are taken out.
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
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        folder = Path(scratch)
        with phases(FETCH):
            held = read_record(ledger, target)
            artifacts = _fetch(ledger, target, held, folder)
        record = held | {
            "schema": SCHEMA,
            "kind": noted.kind,
            "chain": noted.chain,
            "previous": previous,
            "prior": target.version.record,
            "prior_belief": held["posterior"]["matched"],
            "replayed": [],
            "retracted": list(retracted),
            "batch": None,
            "artifacts": artifacts,
        }
        (folder / artifact_names.RECORD).write_bytes(canonical(record))
        summary = pd.read_csv(folder / artifact_names.SUMMARY, index_col="parameter")
        return log_draft(ledger, Draft(folder, record, summary, noted), phases=phases, context=context)


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
    # Plots are drawn anew from the copy's trace: the folder that held them is not uploaded.
    with contextlib.suppress(OSError):
        (folder / artifact_names.PLOTS).rmdir()
    return wanted
