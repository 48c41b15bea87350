"""The status as metrics in Prometheus' text format, for the textfile collector of node_exporter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from flows.monitoring.status import Level, Status

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_Samples = Iterable[tuple[Mapping[str, str], float | None]]


def exposition(status: Status) -> str:
    """Return a status as metrics. Times are seconds, sizes bytes; what is unknown has no sample."""
    from prometheus_client import CollectorRegistry, generate_latest  # other commands do not wait for it

    registry = CollectorRegistry()

    def add(name: str, meaning: str, samples: _Samples) -> None:
        _gauge(registry, f"lindley_{name}", meaning, samples)

    levels = {
        level: sum(f.level == level for f in status.findings) for level in (Level.WARNING, Level.CRITICAL)
    }
    add("status", "0 ok, 1 warning, 2 critical", [({}, status.level.code)])
    add("status_time_seconds", "Time of this status", [({}, status.at.timestamp())])
    add("findings", "Findings of `lindley status`", [({"level": str(k)}, n) for k, n in levels.items()])
    answers = {name: server["answers"] for name, server in status.servers.items()}
    add("server_up", "Whether a server answers", [({"server": n}, _number(v)) for n, v in answers.items()])
    alive = [({"process": name}, float(lives)) for name, lives in status.processes.items()]
    add("process_up", "Whether a process of `lindley up` lives", alive)
    add("workers_online", "Workers of the pool that Prefect has heard of", [({}, _number(status.workers))])
    for name, column, meaning in (
        ("chain_links", "links", "Links of a chain"),
        ("chain_head_age_seconds", "head_age", "Age of the newest link"),
        ("chain_head_warnings", "warnings", "Warnings of the newest link"),
        ("chain_quarantined", "quarantined", "Quarantined batches that are not counted"),
        ("chain_candidates", "candidates", "Candidates that wait for a person's decision"),
        ("chain_verified", "verified", "Whether the last verification found no error"),
        ("chain_verified_age_seconds", "verified_age", "Time since the last verification"),
        ("chain_verified_head", "verified_head", "Whether it saw the newest link"),
    ):
        rows = [({"chain": row["chain"]}, _number(row[column])) for row in status.chains]
        add(name, meaning, rows)
    files = status.files
    by_chain = [({"chain": chain}, float(count)) for chain, count in files["waiting_by_chain"].items()]
    add("landing_files", "Files in the landing folder", by_chain)
    add("landing_oldest_age_seconds", "Age of the oldest one", [({}, files["oldest_waiting"])])
    add("rejected_files", "Rejected files", [({}, files["rejected"])])
    disks = [({"folder": folder}, float(space["free"])) for folder, space in status.disks.items()]
    add("disk_free_bytes", "Free space", disks)
    return generate_latest(registry).decode()


def _gauge(registry: CollectorRegistry, name: str, meaning: str, samples: _Samples) -> None:
    """Add a gauge with the samples that are known."""
    from prometheus_client import Gauge  # see `exposition`

    found = [(labels, value) for labels, value in samples if value is not None]
    if not found:
        return
    gauge = Gauge(name, meaning, list(found[0][0]), registry=registry)
    for labels, value in found:
        (gauge.labels(**labels) if labels else gauge).set(value)


def _number(value: float | bool | None) -> float | None:
    return None if value is None else float(value)
