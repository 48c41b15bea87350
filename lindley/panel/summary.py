"""A link of a panel in numbers, as they follow from the rows of its members: counts, metrics, gate."""

from __future__ import annotations

from collections.abc import Sequence

from lindley.inference.diagnostics.gate import Gate, Thresholds
from lindley.ledger.record import Kind
from lindley.model.policy import PanelPolicy
from lindley.panel.row import ACCEPTED, QUARANTINED, WITHDRAWN, MemberRow
from lindley.report.text import counted

#: Reasons of members that a link's gate names.
_NAMED = 3


def counts_of(rows: Sequence[MemberRow], members: int) -> dict[str, int]:
    """Return the counts of a link that wrote these rows, with so many members in all after it."""
    statuses = (ACCEPTED, QUARANTINED, WITHDRAWN)
    return {
        "members": members,
        "changed": len(rows),
        **{status: sum(row.status == status for row in rows) for status in statuses},
        "new": sum(row.prior is None for row in rows),
    }


def samplers_of(rows: Sequence[MemberRow]) -> dict[str, int]:
    """Return how many of the rows were sampled in which way."""
    found: dict[str, int] = {}
    for row in rows:
        name = str(row.attempt["sampler"] or "none")
        found[name] = found.get(name, 0) + 1
    return found


def gate_of(rows: Sequence[MemberRow], policy: PanelPolicy, kind: str) -> Gate:
    """Return the gate of a link: enough members must pass theirs.

    In an amendment all must: one that kept its belief would keep what is taken out.
    """
    failed = [row for row in rows if row.status == QUARANTINED]
    named = "; ".join(f"[{row.key}]: {_reason(row)}" for row in failed[:_NAMED])
    if failed and kind != Kind.UPDATE:
        why = f"{len(failed)} of {counted(len(rows), 'member')} failed their gate, and would keep what is "
        return Gate(passed=False, reasons=(f"{why}taken out ({named})",))
    if rows and len(failed) / len(rows) >= policy.quarantine_from:
        why = f"{len(failed)} of {counted(len(rows), 'member')} failed their gate, fewer than "
        why += f"{policy.quarantine_from:.0%} may ({named})"
        return Gate(passed=False, reasons=(why,))
    held = f"{counted(len(failed), 'member')} failed and kept the belief before: {named}"
    return Gate(passed=True, warnings=(held,) if failed else ())


def _reason(row: MemberRow) -> str:
    return str(next(iter(row.attempt["reasons"]), "its fit failed the gate"))[:200]


def metrics_of(rows: Sequence[MemberRow], members: int, thresholds: Thresholds) -> dict[str, float]:
    """Return the scalar results of a link that wrote these rows, with so many members in all after it."""
    accepted = [row.attempt["metrics"] for row in rows if row.status == ACCEPTED]
    conflicts = [row.conflict for row in rows if row.conflict is not None]
    numbers = counts_of(rows, members)
    found = {"members" if name == "members" else f"members_{name}": count for name, count in numbers.items()}
    found["members_conflicted"] = sum(conflict < thresholds.conflict_warn for conflict in conflicts)
    metrics = {name: float(count) for name, count in found.items()}
    scores = [held.get("log_predictive") for held in accepted]
    if accepted and None not in scores:
        metrics["log_predictive"] = float(sum(score for score in scores if score is not None))
    worst = {"stated_error": max, "ess_bulk_min": min, "ess_tail_min": min, "r_hat_max": max}
    for name, take in worst.items():
        values = [held[name] for held in accepted if name in held]
        if values:
            metrics[name] = float(take(values))
    return metrics
