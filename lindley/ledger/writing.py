"""Making a link: artifacts, read back and verified; then the version; then the head hint.

Every step can be cut off by a kill: before the version nothing is visible but a run that the next
writer marks abandoned, after it the link is complete and the next writer moves the hint.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lindley import failpoints
from lindley.errors import AccessRefused, LedgerCorrupt
from lindley.ledger import bundle
from lindley.ledger.bundle import Content
from lindley.ledger.chain import Chain, Status, Version, version_tags
from lindley.ledger.netcdf import file_digests
from lindley.ledger.protocol import Ledger, Run, RunStatus
from lindley.ledger.reading import read_chain
from lindley.ledger.signer import sign_record, signer_from_environment
from lindley.report.note import NotedLink, link_note
from lindley.timing import LOG, PHASES, REGISTER, TOTAL, WRITE, Phases, metric


@dataclass(frozen=True)
class RunContext:
    """Who runs the update: the flow run, when there is one."""

    flow_run_id: str | None = None
    flow_run_url: str | None = None


@dataclass(frozen=True)
class LoggedLink:
    """A link whose artifacts are in the ledger, read back and verified; not registered yet.

    `phases` are the seconds so far: what comes after the run was opened is logged when it is closed.
    """

    chain: str
    run_id: str
    record: dict[str, Any]
    record_digest: str
    previous: str
    note: str
    phases: Phases = field(default_factory=Phases, compare=False)


@dataclass(frozen=True)
class Registered:
    """What became of a logged link: ``accepted``, ``quarantined`` or ``superseded``."""

    status: Status
    chain: str
    link: int | None
    version: int | None
    run_id: str
    record_digest: str
    run_url: str | None = None
    version_url: str | None = None


def log_content(
    ledger: Ledger,
    content: Content,
    *,
    link: int,
    prior_link: int | None,
    phases: Phases,
    context: RunContext,
    taken_out: Sequence[str] = (),
) -> LoggedLink:
    """Write a link's files, open its run, upload, read back and verify.

    Parameters
    ----------
    ledger
        Where to.
    content
        The link.
    link, prior_link
        Number it will have if it wins, and of the link whose posterior was its prior.
    phases
        Seconds by phase so far; those of this are added.
    context
        The flow run.
    taken_out
        The links whose batches are taken out, in words.

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
        failpoints.reach("files-written")
        with phases(LOG):
            record_digest = bundle.record_digest(record)
            note = _note(content, record_digest, link, prior_link, context, taken_out)
            run = _run(content, record, record_digest, note, link, phases, context)
            run_id = store_run(ledger, run, folder, record, link)
    return LoggedLink(
        chain=content.declaration.name,
        run_id=run_id,
        record=record,
        record_digest=record_digest,
        previous=content.previous,
        note=note,
        phases=phases,
    )


def store_run(ledger: Ledger, run: Run, folder: Path, record: dict[str, Any], link: int) -> str:
    """Sign a link, open its run, upload its files, read them back and verify; return the run's id.

    Parameters
    ----------
    ledger, run
        Where to, and what the run shows.
    folder
        All files of the link, the record among them; its signature is written beside it where the
        environment names a key.
    record, link
        The record, and the number that the link will have if it wins.

    Raises
    ------
    LedgerCorrupt
        If what was read back is not what was written; the run is kept and marked.
    KeyRefused
        If the environment names a key for signatures that cannot be used.
    """
    sign_record(folder, record, bundle.record_digest(record), link, signer_from_environment())
    run_id = ledger.open_run(record["chain"], run)
    failpoints.reach("run-opened")
    ledger.upload(run_id, folder)
    failpoints.reach("uploaded")
    with tempfile.TemporaryDirectory(prefix="lindley-") as again:
        _verify_upload(ledger, run_id, file_digests(folder), Path(again))
    failpoints.reach("read-back")
    return run_id


def register_link(ledger: Ledger, logged: LoggedLink) -> Registered:
    """Create the version of a logged link and, when it is the new head, point the alias at it.

    The run is closed at the end, with the seconds that nobody knew when it was opened. Tried again after an
    error, it finds what it made before and goes on from there.
    """
    with logged.phases(REGISTER):
        registered = _registered_as(ledger, logged)
    seconds = logged.phases.metrics(LOG, REGISTER) | {metric(TOTAL): logged.phases.total()}
    ledger.close_run(logged.run_id, RunStatus.FINISHED, registered.status, seconds)
    if registered.version is not None:
        failpoints.reach("closed")
    return registered


def _registered_as(ledger: Ledger, logged: LoggedLink) -> Registered:
    """Create the version and move the alias; a lost race has no version."""
    genesis = ledger.genesis(logged.chain)
    if genesis is None:
        raise LedgerCorrupt(
            f"The chain {logged.chain} is gone",
            expected="the registered model that was there when the link was planned",
            found="none",
            todo="find out who deleted it; the link's run and its artifacts are still there",
        )
    chain = read_chain(ledger, logged.chain, genesis)
    # A registration that was cut off after its create is tried again: the head may be its own link.
    found = _version_of(chain, logged)
    new = found is None
    if found is None:
        if chain.head_digest != logged.previous:
            # The race is lost already: a version would only be one more that is no link.
            return _registered(ledger, logged, Status.SUPERSEDED, None, None)
        failpoints.reach("head-checked")
        number = ledger.register(
            logged.chain, logged.run_id, version_tags(logged.record, logged.record_digest), logged.note
        )
        failpoints.reach("versioned")
        chain = read_chain(ledger, logged.chain, genesis)
        # Not by its number: of a create that was sent twice that is the second one's.
        found = _version_of(chain, logged) or (Status.SUPERSEDED, None, number)
    status, link, number = found
    if new and chain.head is not None and chain.head.number == link:
        # Not read first: the link is new, so that it points elsewhere.
        ledger.set_head_hint(logged.chain, number)
    else:
        _move_hint(ledger, logged.chain, chain)
    failpoints.reach("aliased")
    return _registered(ledger, logged, status, link, number)


def _version_of(chain: Chain, logged: LoggedLink) -> tuple[Status, int | None, int] | None:
    """Return status, link and number of the version that a logged link has; None where it has none.

    Its run tells it from the same record of another writer: what is copied has the same bytes each time.
    """
    mine = (logged.record_digest, logged.run_id)
    found: list[tuple[Status, int | None, Version]] = []
    found += [(Status.ACCEPTED, link.number, link.version) for link in chain.own]
    found += [(Status.QUARANTINED, None, version) for version in chain.quarantined]
    found += [(Status.SUPERSEDED, None, version) for version in chain.superseded]
    own = (item for item in found if (item[2].record, item[2].run_id) == mine)
    return next(((status, link, version.number) for status, link, version in own), None)


def complete(ledger: Ledger, name: str, chain: Chain) -> None:
    """Finish what a killed writer left: the head hint, and runs that nobody works on any more.

    Who may only read leaves it to the next writer: an audit needs no more than that. What a writer
    does of its own is refused in its place.
    """
    with suppress(AccessRefused):
        _complete(ledger, name, chain)


def _complete(ledger: Ledger, name: str, chain: Chain) -> None:
    _move_hint(ledger, name, chain)
    states = {version.run_id: Status.SUPERSEDED for version in chain.superseded}
    states |= {version.run_id: Status.QUARANTINED for version in chain.quarantined}
    states |= {link.version.run_id: Status.ACCEPTED for link in chain.own}
    for run_id in ledger.dead_runs(name):
        state = states.get(run_id, Status.ABANDONED)
        ledger.close_run(run_id, RunStatus.KILLED if state == Status.ABANDONED else RunStatus.FINISHED, state)


def _move_hint(ledger: Ledger, name: str, chain: Chain) -> None:
    """Point the alias at the head where it points elsewhere."""
    head = chain.head
    # Of a branch, the links before its own are versions of another chain.
    if head is not None and chain.own and ledger.head_hint(name) != head.version.number:
        ledger.set_head_hint(name, head.version.number)


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


def run_tags(record: dict[str, Any], record_digest: str, context: RunContext) -> dict[str, str]:
    """Return the tags of a link's run: those of its version, and the flow run."""
    tags = version_tags(record, record_digest) | {"lindley.flow_run": context.flow_run_id or ""}
    tags["lindley.flow_run_url"] = context.flow_run_url or ""
    return {name: value for name, value in tags.items() if value}


def _run(
    content: Content,
    record: dict[str, Any],
    record_digest: str,
    note: str,
    link: int,
    phases: Phases,
    context: RunContext,
) -> Run:
    """Collect what the run shows: parameters, metrics, tags, note, dataset."""
    batch = content.batch
    # What is being logged at this moment is known when the run is closed.
    metrics = dict(content.info.metrics) | phases.metrics(*(name for name in PHASES if name != LOG))
    params = {f"sampler/{name}": str(value) for name, value in record["sampler"].items()}
    params |= {f"likelihood/{name}": str(text) for name, text in content.info.likelihood.items()}
    params |= {f"{role}/{name}": text for role, texts in content.info.genesis.items()
               for name, text in texts.items()}  # fmt: skip
    for label, row in content.info.summary.iterrows():
        for column in ("mean", "sd", "sd_ratio", "r_hat", "ess_bulk", "ess_tail"):
            if row[column] == row[column]:  # NaN has no place in a registry
                metrics[f"{column}/{label}"] = float(row[column])
        if row["prior_mean"] == row["prior_mean"]:
            params[f"prior/{label}"] = f"mean={float(row['prior_mean'])!r} sd={float(row['prior_sd'])!r}"
    return Run(
        name=f"{content.declaration.name} {link}: {batch.origin if batch else content.kind}"[:200],
        params=params,
        metrics=metrics,
        tags=run_tags(record, record_digest, context),
        note=note,
        frame=batch.frame() if batch else None,
        batch_digest=batch.digest if batch else "",
        origin=batch.origin if batch else "",
    )


def _note(
    content: Content,
    record_digest: str,
    link: int,
    prior_link: int | None,
    context: RunContext,
    taken_out: Sequence[str],
) -> str:
    """Write the link's note."""
    digests = {"record": record_digest, "previous": content.previous, "prior": content.prior}
    if content.batch is not None:
        digests["batch"] = content.batch.digest
    noted = NotedLink(
        chain=content.declaration.name,
        kind=content.kind,
        number=link if content.info.gate.passed else None,
        prior=prior_link,
        status=Status.ACCEPTED if content.info.gate.passed else Status.QUARANTINED,
        batch=content.batch,
        taken_out=taken_out,
    )
    addresses = {"flow run": context.flow_run_url} if context.flow_run_url else None
    return link_note(content.info.summary, noted, content.info.gate, digests=digests, addresses=addresses)


def _registered(
    ledger: Ledger, logged: LoggedLink, status: Status, link: int | None, version: int | None
) -> Registered:
    urls = ledger.urls(logged.chain, logged.run_id, version)
    return Registered(
        status=status,
        chain=logged.chain,
        link=link,
        version=version,
        run_id=logged.run_id,
        record_digest=logged.record_digest,
        run_url=urls.get("run"),
        version_url=urls.get("version"),
    )
