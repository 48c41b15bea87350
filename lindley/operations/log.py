"""Log a fitted plan: its artifacts are written, read back and verified; it is not registered yet.

A link of a plan without a fit has an earlier link's belief, bit for bit.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lindley.errors import LedgerCorrupt, LostRace
from lindley.ledger.bundle import Content
from lindley.ledger.chain import ChainLink, Version, records_of
from lindley.ledger.lineage import Origin
from lindley.ledger.netcdf import file_digests
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_record, read_table, record_of
from lindley.ledger.record import SCHEMA, Artifact, canonical, digest
from lindley.ledger.references import shown
from lindley.ledger.signer import signer_from_environment
from lindley.ledger.writing import Draft, LoggedLink, RunContext, log_content, log_draft
from lindley.operations.panel.fit import PanelOutcome
from lindley.operations.panel.log import write_panel
from lindley.operations.plan import Decision, Outcome, Plan
from lindley.report.note import NotedLink
from lindley.timing import FETCH, WRITE, Phases


def log_plan(
    ledger: Ledger,
    plan: Plan,
    outcome: Outcome | PanelOutcome | None,
    *,
    context: RunContext | None = None,
) -> LoggedLink:
    """Write a link's artifacts, read them back and verify their digests; starts the chain if it is new.

    Parameters
    ----------
    outcome
        What `fit_plan` returned.
    context
        The flow run, when there is one.

    Raises
    ------
    LostRace
        If another writer started the chain differently meanwhile.
    LedgerCorrupt
        If what was read back is not what was written; the run is kept and marked.
    KeyRefused
        If the environment names a key for signatures that cannot be used.
    """
    signer_from_environment()  # before the chain is claimed
    _claim(ledger, plan)
    origin = Origin(plan.target, ()) if outcome is None else plan.settled(outcome.undone)
    noted = NotedLink(
        chain=plan.declaration.name,
        kind=plan.kind,
        number=plan.link,
        prior=origin.prior.number if origin.prior else None,
        batch=plan.batch,
        taken_out=[shown(gone) for gone in plan.retracted],
        joined=[link.version.origin for link in plan.joined],
    )
    context = context or RunContext()
    if plan.decision is not None:
        return _log_decision(ledger, plan, plan.decision, noted, context)
    if plan.target is not None or outcome is None:
        return _log_copy(
            ledger,
            plan.target or plan.chain.links[-1],
            noted,
            previous=plan.previous,
            retracted=[gone.version.record for gone in plan.retracted],
            source=plan.source,
            phases=plan.phases,
            context=context,
        )
    if isinstance(outcome, PanelOutcome):
        return _log_panel(ledger, plan, outcome, noted, context)
    plan.phases.add(outcome.info.seconds)
    content = _content(plan, outcome, origin)
    return log_content(ledger, content, noted, phases=plan.phases, context=context)


def _claim(ledger: Ledger, plan: Plan) -> None:
    """Start the chain of a plan if it does not exist yet."""
    name = plan.declaration.name
    if plan.fresh and ledger.claim(name, plan.genesis, plan.declaration.description) != plan.genesis:
        raise LostRace(
            f"Another writer started the chain {name} first",
            expected="this link to be the first",
            found="a genesis record with other carried variables or code, or another origin",
            todo="run it again: it continues the chain that exists, or states why it cannot",
        )


def _content(plan: Plan, outcome: Outcome, origin: Origin) -> Content:
    """Collect what the record of a fit is made from, whatever its kind."""
    return Content(
        declaration=plan.declaration,
        kind=plan.kind,
        previous=plan.previous,
        prior=origin.prior.version.record if origin.prior else digest(plan.genesis),
        carried=plan.carried,
        constants=plan.constants,
        info=outcome.info,
        replayed=tuple(link.version.record for link in origin.links),
        retracted=records_of(plan.retracted),
        joined=records_of(plan.joined),
        batch=plan.batch,
        source=plan.source,
        structure=plan.structure,
        newest=plan.batches[-1] if plan.batches else None,
        audit=outcome.audit,
    )


def _log_panel(
    ledger: Ledger, plan: Plan, outcome: PanelOutcome, noted: NotedLink, context: RunContext
) -> LoggedLink:
    """Write the link of a panel, read it back and verify; it is not registered yet."""
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        folder, head = Path(scratch), plan.origin.prior
        with plan.phases(WRITE):
            prior = head.version.record if head else digest(plan.genesis)
            record, summary = write_panel(ledger, plan, outcome, folder, prior)
        draft = Draft(folder, record, summary, noted, plan.batch)
        return log_draft(ledger, draft, phases=plan.phases, context=context)


def _log_copy(
    ledger: Ledger,
    target: ChainLink,
    noted: NotedLink,
    *,
    previous: str,
    retracted: Sequence[str] = (),
    source: dict[str, Any] | None = None,
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
    source
        Where a pull read that the batches are gone; None for links that no pull made.
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
            wanted = {path: sha for path, sha in held["artifacts"].items() if path != Artifact.BATCH}
            artifacts = _fetch(ledger, target.version, wanted, folder, f"link {target.number}")
        record = held | {
            "schema": SCHEMA,
            "kind": noted.kind,
            "chain": noted.chain,
            "previous": previous,
            "prior": target.version.record,
            "replayed": [],
            "retracted": list(retracted),
            "joined": [],
            "source": source,
            "decision": None,
            "batch": None,
            "artifacts": artifacts,
        }
        if "posterior" in held:
            record["prior_belief"] = held["posterior"]["matched"]
        (folder / Artifact.RECORD).write_bytes(canonical(record))
        summary = read_table(folder / Artifact.SUMMARY)
        return log_draft(ledger, Draft(folder, record, summary, noted), phases=phases, context=context)


def _log_decision(
    ledger: Ledger, plan: Plan, decision: Decision, noted: NotedLink, context: RunContext
) -> LoggedLink:
    """Write what a person decided: the record that was decided on with the decision, and its files.

    Raises
    ------
    LedgerCorrupt
        If what is held of the version is not what its record lists, or what was read back is not what was
        written.
    KeyRefused
        If the environment names a key for signatures that cannot be used.
    """
    version, name = decision.version, f"version {decision.version.number}"
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        folder = Path(scratch)
        with plan.phases(FETCH):
            held = record_of(ledger, version.run_id, version.record, name)
            _fetch(ledger, version, held["artifacts"], folder, name)
        stated = {
            "candidate": version.record,
            "verdict": decision.verdict,
            "who": decision.who,
            "why": decision.why,
        }
        record = held | {"decision": stated}
        (folder / Artifact.RECORD).write_bytes(canonical(record))
        words = f"{name} was {decision.verdict} by {decision.who}: {decision.why.rstrip('.')}"
        noted = replace(noted, decision=words[0].upper() + words[1:])
        draft = Draft(folder, record, read_table(folder / Artifact.SUMMARY), noted, plan.batch)
        return log_draft(ledger, draft, phases=plan.phases, context=context)


def _fetch(
    ledger: Ledger, version: Version, wanted: dict[str, str], folder: Path, name: str
) -> dict[str, str]:
    """Fetch the files of a version that are wanted, and check them; return their digests."""
    ledger.download(version.run_id, folder)
    found = file_digests(folder)
    wrong = sorted(path for path in wanted if found.get(path) != wanted[path])
    if wrong:
        raise LedgerCorrupt(
            f"The artifacts of {name} are not those that its record lists",
            expected=f"sha256 {wanted[wrong[0]]} of {wrong[0]}",
            found=f"other content of {', '.join(wrong[:5])}",
            todo="run `lindley verify`; restore the artifacts from a backup",
        )
    for path in found.keys() - wanted.keys():
        (folder / path).unlink()
    # Plots are drawn anew from the copy's trace: the folder that held them is not uploaded.
    with contextlib.suppress(OSError):
        (folder / Artifact.PLOTS).rmdir()
    return wanted
