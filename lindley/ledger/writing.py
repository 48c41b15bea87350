"""Write a link's artifacts, read them back and verify them.

The link is not visible before it is registered (see `lindley.ledger.registration`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley import failpoints
from lindley.errors import LedgerCorrupt
from lindley.inference.diagnostics.gate import Gate
from lindley.ledger import bundle
from lindley.ledger.bundle import Content
from lindley.ledger.chain import version_tags
from lindley.ledger.netcdf import file_digests
from lindley.ledger.protocol import Ledger, Run, RunStatus
from lindley.ledger.record import MOVES, Artifact, Status, canonical, digest, status_of
from lindley.ledger.signer import sign_record, signer_from_environment
from lindley.report.note import NotedLink, link_note, with_foot
from lindley.timing import LOG, PHASES, WRITE, Phases

if TYPE_CHECKING:
    import pandas as pd

    from lindley.batch.batch import Batch


@dataclass(frozen=True)
class RunContext:
    """Who runs the update: the flow run, when there is one."""

    flow_run_id: str | None = None
    flow_run_url: str | None = None


@dataclass(frozen=True)
class LoggedLink:
    """A link whose artifacts are in the ledger, read back and verified; not registered yet.

    Parameters
    ----------
    noted
        The link as its note presents it, with the number that it will have if it wins.
    phases
        Seconds so far: what comes after the run was opened is logged when it is closed.
    """

    noted: NotedLink
    run_id: str
    record: dict[str, Any]
    record_digest: str
    note: str
    phases: Phases = field(default_factory=Phases, compare=False)

    @property
    def chain(self) -> str:
        """Name of the chain."""
        return self.noted.chain

    @property
    def previous(self) -> str:
        """Record digest of the head that it succeeds."""
        return str(self.record["previous"])


@dataclass(frozen=True)
class Draft:
    """A link as files in a folder, not in the ledger yet.

    Parameters
    ----------
    folder
        All files of the link, the record among them; its signature is written beside it.
    record, summary
        The record, and the table of parameters.
    noted
        The link as its note presents it; its number is the one that it will have if it wins.
    batch
        The link's own batch; None for a link without one.
    note
        What people are shown of it, without its foot; empty until the record states its digest.
    """

    folder: Path
    record: dict[str, Any]
    summary: pd.DataFrame
    noted: NotedLink
    batch: Batch | None = None
    note: str = ""

    @property
    def link(self) -> int:
        """Number that it will have if it wins."""
        return self.noted.number or 0

    @property
    def copied(self) -> bool:
        """Whether the belief is that of the link's prior, without a fit of its own."""
        return is_copy(self.record)

    @property
    def shown(self) -> NotedLink:
        """The link as its note presents it, with what becomes of it."""
        status = status_of(self.record)
        return replace(self.noted, number=self.link if status == Status.ACCEPTED else None, status=status)


def log_content(
    ledger: Ledger, content: Content, noted: NotedLink, *, phases: Phases, context: RunContext
) -> LoggedLink:
    """Write a link's files, open its run, upload, read back and verify.

    Parameters
    ----------
    ledger
        Where to.
    content, noted
        The link, and how its note presents it.
    phases
        Seconds by phase so far; those of this are added.
    context
        The flow run.

    Raises
    ------
    LedgerCorrupt
        If what was read back is not what was written; the run is kept and marked.
    KeyRefused
        If the environment names a key for signatures that cannot be used.
    """
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        folder = Path(scratch) / "link"
        folder.mkdir()
        with phases(WRITE):
            record = bundle.write(content, folder, ledger.package)
        draft = Draft(folder, record, content.info.summary, noted, content.batch)
        return log_draft(ledger, draft, phases=phases, context=context)


def log_draft(ledger: Ledger, draft: Draft, *, phases: Phases, context: RunContext) -> LoggedLink:
    """Sign a link, open its run, upload its files, read them back and verify.

    Raises
    ------
    LedgerCorrupt
        If what was read back is not what was written; the run is kept and marked.
    KeyRefused
        If the environment names a key for signatures that cannot be used.
    """
    draft = _with_note(draft)
    failpoints.reach("files-written")
    record, record_digest = draft.record, bundle.record_digest(draft.record)
    with phases(LOG):
        run = _run(draft, record_digest, phases, context)
        sign_record(draft.folder, record, record_digest, draft.link, signer_from_environment())
        run_id = ledger.open_run(record["chain"], run)
        failpoints.reach("run-opened")
        ledger.upload(run_id, draft.folder)
        failpoints.reach("uploaded")
        with tempfile.TemporaryDirectory(prefix="lindley-") as again:
            _verify_upload(ledger, run_id, file_digests(draft.folder), Path(again))
        failpoints.reach("read-back")
    return LoggedLink(draft.noted, run_id, record, record_digest, run.note, phases)


def _with_note(draft: Draft) -> Draft:
    """Let the record state the digest of what people are shown of the link, and write it."""
    text = link_note(draft.summary, draft.shown, Gate(**draft.record["gate"]))
    record = draft.record | {"note": digest(text.encode())}
    (draft.folder / Artifact.RECORD).write_bytes(canonical(record))
    return replace(draft, record=record, note=text)


def _verify_upload(ledger: Ledger, run_id: str, written: dict[str, str], folder: Path) -> None:
    """Fetch every artifact of a run and compare digests."""
    ledger.download(run_id, folder)
    held = file_digests(folder)
    if held == written:
        return
    wrong = sorted(path for path in written.keys() | held.keys() if written.get(path) != held.get(path))
    ledger.close_run(run_id, RunStatus.KILLED, Status.CORRUPT)
    raise LedgerCorrupt(
        "The artifact store did not return what was written to it",
        expected=f"{len(written)} files with the digests they were written with",
        found=f"other content of {', '.join(wrong[:5])}",
        todo="check the artifact store (disk, bucket, proxy), then update again: nothing was registered",
    )


def _run(draft: Draft, record_digest: str, phases: Phases, context: RunContext) -> Run:
    """Collect what the run shows: parameters, metrics, tags, note, dataset."""
    record, noted, batch = draft.record, draft.noted, draft.batch
    # The seconds of logging are known when the run is closed.
    metrics = dict(record["metrics"]) | phases.metrics(*(name for name in PHASES if name != LOG))
    what = batch.origin if batch else noted.kind
    if draft.copied:
        what += f", belief of link {noted.prior}"
    if noted.decision:
        what += f", {record['decision']['verdict']}"
    tags = version_tags(record, record_digest)
    tags |= {
        "lindley.flow_run": context.flow_run_id or "",
        "lindley.flow_run_url": context.flow_run_url or "",
    }
    return Run(
        name=f"{noted.chain} {draft.link}: {what}"[:200],
        params=parameters(record, draft.summary),
        metrics=metrics | charts(draft.summary),
        tags={name: value for name, value in tags.items() if value},
        note=whole_note(draft.note, record, record_digest, {"flow run": context.flow_run_url or ""}),
        frame=batch.frame() if batch else None,
        batch_digest=batch.digest if batch else "",
        origin=batch.origin if batch else "",
    )


def parameters(record: dict[str, Any], summary: pd.DataFrame) -> dict[str, str]:
    """Return the parameters of a link's run; they follow from its record and its table of parameters."""
    if "panel" in record:
        found = {f"sampler/{name}": str(count) for name, count in record["panel"]["samplers"].items()}
    else:
        # A number as the record's canonical text states it: 16.0 is 16 there.
        found = {
            f"sampler/{name}": value if isinstance(value, str) else canonical(value).decode()
            for name, value in record["sampler"].items()
        }
        found |= {f"likelihood/{name}": str(text) for name, text in record["model"]["likelihood"].items()}
        for role, texts in record["model"]["genesis"].items():
            found |= {f"{role}/{name}": text for name, text in texts.items()}
    for label, row in summary.iterrows():
        if row["prior_mean"] == row["prior_mean"]:
            found[f"prior/{label}"] = f"mean={float(row['prior_mean'])!r} sd={float(row['prior_sd'])!r}"
    return found | ({"belief of": record["prior"]} if is_copy(record) else {})


def charts(summary: pd.DataFrame) -> dict[str, float]:
    """Return the metrics that the charts of a chain's runs show by parameter: ``mean/theta`` and so on."""
    return {
        f"{column}/{label}": float(row[column])
        for label, row in summary.iterrows()
        for column in ("mean", "sd", "sd_ratio", "r_hat", "ess_bulk", "ess_tail")
        if row[column] == row[column]  # NaN has no place in a registry
    }


def is_copy(record: dict[str, Any]) -> bool:
    """Return whether the belief is that of the link's prior, without a fit of its own."""
    if "panel" in record:
        return record["kind"] in MOVES
    return bool(record["prior_belief"] == record["posterior"]["matched"])


def whole_note(text: str, record: dict[str, Any], record_digest: str, addresses: Mapping[str, str]) -> str:
    """Return what people are shown of a link: its note, with digests and addresses."""
    digests = {"record": record_digest, "previous": record["previous"], "prior": record["prior"]}
    if record["batch"]:
        digests["batch"] = record["batch"]["digest"]
    return with_foot(text, digests, addresses)
