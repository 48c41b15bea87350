"""Write the files and the record of a panel's link."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lindley.batch.batch import write_batch
from lindley.ledger.bundle import batch_entry, libraries, write_csv
from lindley.ledger.chain import records_of
from lindley.ledger.netcdf import file_digests
from lindley.ledger.protocol import Ledger
from lindley.ledger.record import SCHEMA, Artifact, canonical
from lindley.model.code.stored import write_modules
from lindley.operations.panel.fit import PanelOutcome
from lindley.operations.plan import Plan
from lindley.panel.index import roots_table
from lindley.panel.row import ACCEPTED, MemberRow, table_of, write_table
from lindley.panel.serving.stored import pointers_of
from lindley.panel.summary import counts_of, samplers_of
from lindley.report.numbers import format_number
from lindley.serving.inputs import example_rows

#: Members whose parameters the summary of a link shows: those that moved most.
SHOWN = 20
_COLUMNS = (
    "mean", "sd", "q05", "q25", "q50", "q75", "q95", "mcse_mean", "r_hat", "ess_bulk", "ess_tail",
    "prior_mean", "prior_sd", "sd_ratio", "shift", "carried",
)  # fmt: skip


def write_panel(
    ledger: Ledger, plan: Plan, outcome: PanelOutcome, folder: Path, prior: str
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Write every file of a panel's link below `folder`, the record last.

    Parameters
    ----------
    prior
        Record digest of the link whose members the fits started from, or of genesis.

    Returns
    -------
    tuple
        The record, and the summary: the parameters of the members that moved most.
    """
    declaration = plan.declaration
    (folder / Artifact.MODEL).write_text(declaration.source_text, encoding="utf-8")
    if declaration.imports.modules:
        write_modules(declaration.imports.modules, folder / Artifact.MODULES)
    if plan.batch is not None:
        write_batch(plan.batch, folder / Artifact.BATCH)
    newest = plan.batch
    ledger.package(folder, declaration, None, example_rows(newest.table, declaration) if newest else None)
    (folder / Artifact.POINTERS).parent.mkdir(parents=True, exist_ok=True)
    (folder / Artifact.POINTERS).write_bytes(canonical(_pointers(plan, outcome)))
    write_table(table_of(outcome.rows), folder / Artifact.MEMBERS)
    write_table(outcome.index.own, folder / Artifact.INDEX)
    write_table(roots_table(outcome.index.roots), folder / Artifact.ROOTS)
    if outcome.draws is not None:
        write_table(outcome.draws, folder / Artifact.DRAWS)
    summary = summary_of(plan, outcome)
    write_csv(summary, folder / Artifact.SUMMARY)
    record = _record(plan, outcome, prior, file_digests(folder))
    (folder / Artifact.RECORD).write_bytes(canonical(record))
    return record, summary


def _pointers(plan: Plan, outcome: PanelOutcome) -> dict[str, Any]:
    """Return where the registered model finds the members that the link did not change."""
    about = {
        "chain": plan.declaration.name,
        "by": list(plan.declaration.by),
        "constants": dict(plan.constants or {}),
    }
    links, index = plan.chain.links, outcome.index
    link = plan.members.common.link if plan.members is not None else plan.link
    return pointers_of(
        index, link, lambda number: links[number - 1].version.run_id, index.checkpoint_digest, about
    )


def summary_of(plan: Plan, outcome: PanelOutcome) -> pd.DataFrame:
    """Return the parameters of the members that moved most; see `most_moved`."""
    work = plan.members.work if plan.members is not None else ()
    before = {item.key.canonical.decode(): item.before for item in work if item.before is not None}
    return most_moved(outcome.rows, before)


def _record(plan: Plan, outcome: PanelOutcome, prior: str, artifacts: dict[str, str]) -> dict[str, Any]:
    """Return the record of a panel's link; this is the only place that builds one from fits."""
    declaration = plan.declaration
    return {
        "schema": SCHEMA,
        "kind": plan.kind,
        "chain": declaration.name,
        "previous": plan.previous,
        "prior": prior,
        "replayed": list(records_of(plan.origin.links)),
        "retracted": list(records_of(plan.retracted)),
        "joined": [],
        "source": plan.source,
        "decision": None,
        "batch": None if plan.batch is None else batch_entry(plan.batch),
        "policy": declaration.policy.as_dict(),
        "thresholds": plan.thresholds.as_dict(),
        "metrics": outcome.metrics,
        "gate": outcome.gate.as_dict(),
        "libraries": libraries(),
        "artifacts": artifacts,
        "model": {
            "digest": declaration.model_digest,
            "carried": list(plan.carried),
            "carry": dict(declaration.carry),
            "constants": plan.constants,
            "imports": declaration.imports.as_dict(),
        },
        "panel": _panel(plan, outcome),
    }


def _panel(plan: Plan, outcome: PanelOutcome) -> dict[str, Any]:
    """Return what the record states of the members."""
    index, members = outcome.index, plan.members
    population = members.common.population if members is not None else None
    return {
        "by": list(plan.declaration.by),
        "root": index.root.hex(),
        "checkpoint": index.checkpoint_link,
        "written": index.written,
        "counts": counts_of(outcome.rows, index.members),
        "samplers": samplers_of(outcome.rows),
        "population": None if population is None else population.digest,
        "policy": plan.declaration.panel.as_dict(),
    }


def most_moved(rows: Sequence[MemberRow], before: Mapping[str, MemberRow]) -> pd.DataFrame:
    """Return the parameters of the members that moved most, as a summary of a link has them.

    A label is that of the member and of the parameter: ``[store=12] beta``. A new member has not moved.
    """
    found: list[tuple[float, str, dict[str, dict[str, Any]]]] = []
    for row in rows:
        if row.status == ACCEPTED and row.state is not None:
            older = before.get(row.key.canonical.decode())
            values = _moved(row.state["summary"], older.state if older is not None else None)
            most = max((abs(v["shift"]) for v in values.values() if v["shift"] == v["shift"]), default=-1.0)
            found.append(
                (-most, row.key.canonical.decode(), {f"[{row.key}] {n}": v for n, v in values.items()})
            )
    found.sort(key=lambda item: item[:2])
    shown = {label: values for _, _, each in found[:SHOWN] for label, values in each.items()}
    frame = pd.DataFrame.from_dict(shown, orient="index").reindex(columns=list(_COLUMNS))
    return frame.rename_axis("parameter")


def _moved(summary: dict[str, dict[str, float]], before: dict[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return a member's summary with the one before it."""
    found: dict[str, dict[str, Any]] = {}
    for name, values in summary.items():
        older = before["summary"].get(name, {}) if before else {}
        mean, sd = older.get("mean", np.nan), older.get("sd", np.nan)
        known = bool(np.isfinite(sd) and sd > 0)
        found[name] = values | {
            "prior_mean": mean,
            "prior_sd": sd,
            "sd_ratio": values["sd"] / sd if known else np.nan,
            "shift": (values["mean"] - mean) / sd if known else np.nan,
            "carried": True,
        }
    return found


def worst_rows(rows: Sequence[MemberRow], most: int = SHOWN) -> list[dict[str, Any]]:
    """Return the worst members of a link for people: those that failed, then those in conflict."""

    def order(row: MemberRow) -> tuple[bool, float, bytes]:
        conflict = 2.0 if row.conflict is None else row.conflict
        return row.status == ACCEPTED, conflict, row.key.canonical

    return [
        {
            "member": f"[{row.key}]",
            "status": row.status,
            "conflict": format_number(row.conflict),
            "sampler": row.attempt["sampler"] or "none",
            "why": "; ".join(row.attempt["reasons"])[:300],
        }
        for row in sorted(rows, key=order)[:most]
    ]
