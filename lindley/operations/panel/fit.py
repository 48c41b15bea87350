"""Fit the members of a panel's link, in shards, and say what became of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from lindley.errors import PanelRefused
from lindley.inference.diagnostics.gate import Gate
from lindley.inference.members.task import MemberOptions
from lindley.ledger.record import Kind
from lindley.operations.audit import audit_table
from lindley.panel.index import Index
from lindley.panel.row import ACCEPTED, MemberRow
from lindley.panel.shards import collect, draws_of, fit_shard, missing, write_shards
from lindley.panel.summary import gate_of, metrics_of
from lindley.report.text import counted
from lindley.timing import SAMPLE

if TYPE_CHECKING:
    import pyarrow as pa

    from lindley.operations.panel.plan import PanelPlan
    from lindley.operations.plan import Plan

#: Runs shards of a folder of work, whose numbers it is given, until all have a result.
RunShards = Callable[[Path, list[int]], object]
#: How often shards without a result are run again: their workers died.
MOST_RUNS = 3


@dataclass(frozen=True)
class PanelOutcome:
    """A panel's plan after its members were fitted.

    Parameters
    ----------
    rows
        Rows of the members that were fitted, by key.
    index
        All members after the link.
    gate
        Whether the link passes, and why not.
    metrics
        Scalar results of the link.
    draws
        Draws of the members; None where the policy keeps none.
    audit
        The beliefs before beside those of a pooled refit (see `lindley.operations.audit.audit_table`); None
        for other kinds.
    """

    rows: tuple[MemberRow, ...]
    index: Index = field(repr=False)
    gate: Gate = field(default_factory=lambda: Gate(passed=True))
    metrics: dict[str, float] = field(default_factory=dict)
    draws: pa.Table | None = None
    audit: pd.DataFrame | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found out before the first fit, in sentences."""
        return ()

    @property
    def advice(self) -> tuple[str, ...]:
        """What would make the next updates cheaper, in sentences."""
        return ()

    @property
    def undone(self) -> int:
        """Number of segments behind the prior that were fitted again: members have their own."""
        return 0

    def highlights(self, seconds: float | None) -> tuple[str, ...]:
        """Return what matters of the link, in sentences."""
        found = self.metrics
        failed = counted(int(found["members_quarantined"]), "member")
        new, conflicted = int(found["members_new"]), int(found["members_conflicted"])
        changed = counted(int(found["members_changed"]), "member")
        lines = [f"{changed} updated, {failed} quarantined, {new} new, {conflicted} in conflict"]
        if seconds is not None:
            lines.append(f"{seconds:.1f} s for {int(found['members']):,} members in all")
        return tuple(lines)


def fit_panel(
    plan: Plan, run_shards: RunShards | None = None, *, shards: int = 1, folder: str = ""
) -> PanelOutcome:
    """Fit the members of a panel's plan. Touches no ledger.

    Parameters
    ----------
    plan
        With `members`.
    run_shards
        How shards are run; one after the other in this process by default.
    shards
        Number of shards.
    folder
        Where the work of the shards lies meanwhile, for workers on other machines; a temporary folder by
        default.

    Raises
    ------
    PanelRefused
        If workers die again and again.
    """
    members = plan.members
    if members is None:
        raise ValueError("a plan without members")
    rows, draws = members.withdrawn, None
    place = tempfile.TemporaryDirectory(prefix="lindley-panel-", dir=folder or None)
    with place as scratch, plan.phases(SAMPLE):
        work, policy = Path(scratch), plan.declaration.panel
        options = MemberOptions(
            carried=plan.carried,
            constants=plan.constants,
            thresholds=plan.thresholds,
            draws=policy.draws,
        )
        if members.work:
            count = write_shards(work, plan.declaration, members.common, options, members.work, shards)
            _run(work, count, run_shards or (lambda path, numbers: _here(plan, path, numbers)))
            rows = (*rows, *collect(work, count, plan.declaration.by))
            draws = draws_of(work, count)
    rows = tuple(sorted(rows, key=lambda row: row.key.canonical))
    index = members.index.changed(rows, members.common.link)
    metrics = metrics_of(rows, index.members, plan.thresholds)
    gate = gate_of(rows, plan.declaration.panel, plan.kind)
    audit = _audit(members, rows) if plan.kind == Kind.REBASE else None
    return PanelOutcome(rows, index, gate, metrics, draws, audit)


def _audit(members: PanelPlan, rows: Iterable[MemberRow]) -> pd.DataFrame | None:
    """Compare the beliefs of members with their pooled refits, the largest differences first."""
    held = {item.key: item.before for item in members.work if item.before is not None}
    pairs = [(row, held[row.key]) for row in rows if row.status == ACCEPTED and row.key in held]
    one = _summaries(before for _, before in pairs if before.state is not None)
    two = _summaries(row for row, before in pairs if before.state is not None)
    if not len(two):
        return None
    found = audit_table(one, two)
    return found.loc[found["error"].abs().sort_values(ascending=False, kind="stable").index]


def _summaries(rows: Iterable[MemberRow]) -> pd.DataFrame:
    """Return the parameters of members, by member and name."""
    found = {
        f"[{row.key}] {name}": values
        for row in rows
        if row.state is not None
        for name, values in row.state["summary"].items()
    }
    return pd.DataFrame.from_dict(found, orient="index")


def _run(folder: Path, count: int, run_shards: RunShards) -> None:
    """Run shards until all have a result."""
    left = list(range(count))
    for _ in range(MOST_RUNS):
        run_shards(folder, left)
        left = missing(folder, left)
        if not left:
            return
    raise PanelRefused(
        f"{counted(len(left), 'shard')} of {count} left no result in {MOST_RUNS} runs",
        expected="workers that live until their members are fitted",
        found=f"shards {', '.join(map(str, left[:5]))} without one",
        todo="look for workers that were killed (memory, time limits); nothing was written to the ledger",
    )


def _here(plan: Plan, folder: Path, numbers: Iterable[int]) -> None:
    """Run shards one after the other in this process."""
    for number in numbers:
        fit_shard(folder, number, plan.declaration)
