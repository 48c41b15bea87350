"""The status of an installation, as its files, its ledger and its servers show it. Only reads.

Nothing is created, no lock is taken, and no server is needed: whatever cannot be asked is reported as such.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from flows.monitoring import probes
from flows.monitoring.verified import last_verification
from lindley.arrivals.storage import storage_of
from lindley.errors import LindleyError
from lindley.ledger.backend import has_ledger, open_ledger
from lindley.model.declaration import is_declared
from lindley.names import divided, printable
from lindley.report.text import counted, one_line
from lindley.workspace import Workspace

HOUR = 3600.0


class Level(StrEnum):
    """How bad something is; the order is that of the exit codes 0, 1 and 2."""

    OK = "ok"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def code(self) -> int:
        """The exit code."""
        return list(Level).index(self)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """From when on something is a warning, or critical.

    Parameters
    ----------
    head_age
        Hours since a chain's newest link after which it is a warning; 0 for never.
    verification_age
        Hours since the last verification after which it is a warning; 0 for never.
    landing_age
        Hours that a file of a declared chain may wait in the landing folder.
    rejected_age
        Hours for which a rejected file is a warning.
    disk_warning, disk_critical
        Bytes free on a disk below which it is a warning, or critical.
    """

    head_age: float = 0.0
    verification_age: float = 48.0
    landing_age: float = 1.0
    rejected_age: float = 24.0
    disk_warning: float = 5 * 2**30
    disk_critical: float = 2**30


@dataclass(frozen=True)
class Finding:
    """Something that is not as it should be."""

    level: Level
    what: str
    message: str


@dataclass(frozen=True)
class Status:
    """What was found.

    Parameters
    ----------
    at
        When.
    servers
        By name: ``address``, ``answers`` (None where the ledger or the database is used without a server).
    processes
        By name of a child of `lindley up`, and ``up`` itself: whether it lives. Empty where none runs here.
    workers
        Workers that Prefect knows for its pool and has heard of lately; None where it cannot be asked.
    chains
        One row for each chain that has links.
    files
        Counts and ages in seconds of what waits in the landing folder and was rejected.
    disks
        By folder: ``free`` and ``total`` bytes; one folder for each disk.
    findings
        The worst first.
    """

    at: datetime
    servers: dict[str, dict[str, Any]]
    processes: dict[str, bool]
    workers: int | None
    chains: list[dict[str, Any]]
    files: dict[str, Any]
    disks: dict[str, dict[str, int]]
    findings: list[Finding]

    @property
    def level(self) -> Level:
        """The worst of all."""
        return max(
            (finding.level for finding in self.findings), key=lambda level: level.code, default=Level.OK
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {"level": str(self.level)} | asdict(self) | {"at": self.at.isoformat(timespec="seconds")}


def status(workspace: Workspace, limits: Limits, now: datetime) -> Status:
    """Find out how an installation is.

    Parameters
    ----------
    now
        The time, with a time zone.
    """
    servers, processes = probes.servers(workspace), probes.processes(workspace)
    workers = probes.workers(workspace, servers)
    asked = servers["mlflow"]["answers"] is not False or not workspace.tracking_uri.startswith("http")
    chains, unreadable = _chains(workspace, now) if asked else ([], [])  # it would be waited for
    files, unseen = _files(workspace, now)
    disks = _disks(workspace)
    findings = [
        *_of_servers(servers, processes, workers),
        *unreadable,
        *_of_chains(chains, limits),
        *unseen,
        *_of_files(files, limits),
        *_of_disks(disks, limits),
    ]
    findings.sort(key=lambda finding: -finding.level.code)
    return Status(now, servers, processes, workers, chains, files, disks, findings)


def _of_servers(
    servers: dict[str, dict[str, Any]], processes: dict[str, bool], workers: int | None
) -> Iterator[Finding]:
    for name, server in servers.items():
        if server["answers"] is False:
            yield Finding(Level.CRITICAL, name, f"the {name} server at {server['address']} does not answer")
    for name, lives in processes.items():
        if not lives and name != "up":
            yield Finding(Level.CRITICAL, name, f"the process {name} of `lindley up` has ended")
    if processes.get("up") is False:
        message = "`lindley up` has ended, and no one stopped it: see .lindley/logs, and start it again"
        yield Finding(Level.CRITICAL, "up", message)
    if workers == 0:
        yield Finding(Level.CRITICAL, "worker", "no worker of the pool has been heard of lately")


def _chains(workspace: Workspace, now: datetime) -> tuple[list[dict[str, Any]], list[Finding]]:
    """Return one row for each chain, and what cannot be read."""
    rows, findings = list[dict[str, Any]](), list[Finding]()
    try:
        ledger = open_ledger(workspace, create=False) if has_ledger(workspace) else None
        names, others = divided(ledger.chains()) if ledger is not None else ([], [])
    except Exception as error:  # whatever is wrong with the ledger, the rest is reported
        return rows, [Finding(Level.CRITICAL, "ledger", f"it cannot be read: {_text(error)}")]
    for name in names:
        try:
            rows.append(_row(ledger, workspace, name, now))
        except Exception as error:  # nor does one chain hide another
            findings.append(Finding(Level.CRITICAL, name, f"the chain cannot be read: {_text(error)}"))
    for name in others:
        findings.append(Finding(Level.WARNING, "ledger", f"the registered model '{name}' is no chain"))
    return rows, findings


def _row(ledger: Any, workspace: Workspace, name: str, now: datetime) -> dict[str, Any]:
    from lindley.ledger.history import views_of  # with the ledger's libraries
    from lindley.ledger.reading import find_chain

    chain = find_chain(ledger, name)
    views = views_of(chain)
    head, verified = (views[-1] if views else None), last_verification(workspace, name)
    return {
        "chain": name,
        "links": len(views),
        "head": head.record_digest if head else None,
        "head_age": _age(head.created, now) if head else None,
        "warnings": len(head.warnings) if head else 0,
        "quarantined": len(chain.waiting),
        "candidates": len(chain.undecided),
        "verified": None if verified is None else verified.ok,
        "verified_age": None if verified is None else _age(verified.at, now),
        "verified_message": "" if verified is None else verified.message,
        # Links that were added since, or a head that went back.
        "verified_head": bool(verified and head and verified.record == head.record_digest),
    }


def _of_chains(rows: list[dict[str, Any]], limits: Limits) -> Iterator[Finding]:
    for row in rows:
        name, age, verified = row["chain"], row["head_age"], row["verified_age"]
        if limits.head_age and age is not None and age > limits.head_age * HOUR:
            yield Finding(Level.WARNING, name, f"its newest link is {hours(age)} old")
        if row["quarantined"]:
            message = f"{row['quarantined']} quarantined batches are not counted: run `lindley log {name}`"
            yield Finding(Level.WARNING, name, message)
        if row["candidates"]:
            waits = counted(row["candidates"], "candidate waits", "candidates wait")
            yield Finding(Level.WARNING, name, f"{waits} for a decision: run `lindley log {name}`")
        if row["verified"] is False:
            message = f"the last verification failed: {row['verified_message']}"
            yield Finding(Level.CRITICAL, name, message)
        elif limits.verification_age and row["links"] and verified is None:
            yield Finding(Level.WARNING, name, "it was not verified here yet")
        elif limits.verification_age and verified is not None and verified > limits.verification_age * HOUR:
            yield Finding(Level.WARNING, name, f"it was last verified {hours(verified)} ago")


def _files(workspace: Workspace, now: datetime) -> tuple[dict[str, Any], list[Finding]]:
    """Return counts and ages of files, and what cannot be listed."""
    findings, waiting = list[Finding](), list[dict[str, Any]]()
    undeclared = 0
    try:
        listing = storage_of(workspace).arrivals()
        for file in listing:
            known = is_declared(file.chain, workspace.models)
            undeclared += not known
            age = max(0.0, now.timestamp() - file.mtime_ns / 1e9)
            waiting.append({"chain": file.chain, "age": age, "declared": known})
        for entry in listing.ignored:
            if entry.error is not None:
                findings.append(Finding(Level.CRITICAL, "landing", _text(entry.error)))
    except LindleyError as error:
        findings.append(Finding(Level.CRITICAL, "landing", _text(error)))
    times = list(storage_of(workspace).rejections())
    rejected = [max(0.0, now.timestamp() - time) for time in times]
    counts: dict[str, int] = {}
    for found in waiting:
        counts[found["chain"]] = counts.get(found["chain"], 0) + 1
    ages = [found["age"] for found in waiting if found["declared"]]
    return {
        "waiting": len(waiting),
        "waiting_by_chain": counts,
        "oldest_waiting": max(ages, default=None),
        "undeclared": undeclared,
        "rejected": len(rejected),
        "newest_rejected": min(rejected, default=None),
    }, findings


def _of_files(files: dict[str, Any], limits: Limits) -> Iterator[Finding]:
    oldest, newest = files["oldest_waiting"], files["newest_rejected"]
    if oldest is not None and oldest > limits.landing_age * HOUR:
        message = f"{files['waiting']} files wait in the landing folder, the oldest for {hours(oldest)}"
        yield Finding(Level.WARNING, "landing", message)
    if files["undeclared"]:
        yield Finding(
            Level.WARNING, "landing", f"{files['undeclared']} files are of chains that are not declared"
        )
    if newest is not None and newest < limits.rejected_age * HOUR:
        yield Finding(Level.WARNING, "rejected", f"a file was rejected {hours(newest)} ago")


def _disks(workspace: Workspace) -> dict[str, dict[str, int]]:
    """Return the space on the disks of the working folder and of the data, one entry for each disk."""
    found: dict[str, dict[str, int]] = {}
    seen = set[int]()
    for folder in (workspace.root, workspace.landing.parent):
        try:
            device, usage = folder.stat().st_dev, shutil.disk_usage(folder)
        except OSError:  # it is not there yet
            continue
        if device not in seen:
            seen.add(device)
            found[str(folder)] = {"free": usage.free, "total": usage.total}
    return found


def _of_disks(disks: dict[str, dict[str, int]], limits: Limits) -> Iterator[Finding]:
    for folder, space in disks.items():
        free = space["free"]
        level = Level.CRITICAL if free < limits.disk_critical else Level.WARNING
        if free < max(limits.disk_warning, limits.disk_critical):
            yield Finding(
                level, "disk", f"{free / 2**30:.1f} GiB are free on the disk of {printable(folder)}"
            )


def _age(created: str, now: datetime) -> float | None:
    """Return the seconds since a time; 0 for one in the future, None for text that is no time."""
    try:
        found = datetime.fromisoformat(created)
    except ValueError:
        return None
    return max(0.0, (now - (found if found.tzinfo else found.replace(tzinfo=now.tzinfo))).total_seconds())


def hours(seconds: float) -> str:
    """Return a duration for people."""
    if seconds < 2 * HOUR:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / HOUR:.0f} hours" if seconds < 72 * HOUR else f"{seconds / 24 / HOUR:.0f} days"


def _text(error: Exception) -> str:
    return one_line(printable(str(error) or type(error).__name__), 300)
