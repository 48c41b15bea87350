"""Plots of a link: views of its stored trace, drawn when it is registered, and again on request.

They prove nothing and records do not list them (docs/adr/0020-plots-after-registration.md).
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr

from lindley import failpoints
from lindley.errors import not_of_panels
from lindley.ledger.history import find_link, history
from lindley.ledger.netcdf import read_trace
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import fetch_listed, read_table, record_of
from lindley.ledger.record import PLOTS, Artifact
from lindley.report.numbers import QUANTILES
from lindley.timing import PLOTS as PHASE
from lindley.timing import Phases, metric


def draw_chain(
    ledger: Ledger,
    chain: str,
    parameter: str,
    path: Path,
    *,
    reference: float | None = None,
    reference_label: str = "reference",
) -> Path:
    """Draw a scalar parameter's intervals link by link into a PNG file; return its path.

    Parameters
    ----------
    parameter
        Name of a scalar variable of the posterior, free or derived.
    path
        The file, overwritten if it exists.
    reference, reference_label
        A value to compare with, and what it is.

    Raises
    ------
    UnknownChain
        If there is no such chain.
    """
    from lindley.report.figures import chain_figure, save  # matplotlib is slow to import

    rows: list[dict[str, Any]] = []
    for view in history(ledger, chain):
        trace = find_link(ledger, f"{chain}@{view.number}").trace()
        if not rows and "prior" in trace.children and parameter in trace["prior"].data_vars:
            rows.append({"link": 0, "label": "prior", **_quantiles(trace["prior"][parameter])})
        rows.append(
            {"link": view.number, "label": str(view.number), **_quantiles(trace["posterior"][parameter])}
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = chain_figure(rows, parameter, reference=reference, reference_label=reference_label)
    save(figure, path)
    return path


def _quantiles(draws: Any) -> dict[str, float]:
    return {name: float(draws.quantile(level)) for name, level in QUANTILES.items()}


def draw_missing(ledger: Ledger, runs: Mapping[str, str]) -> tuple[str, ...]:
    """Draw the plots of links that have none yet; return the runs whose plots were drawn.

    Parameters
    ----------
    ledger
        Where the links are.
    runs
        Record digests by run id. Only these runs are looked at.

    Raises
    ------
    LedgerCorrupt
        If a record, trace or audit is not what was registered.
    """
    return tuple(run_id for run_id, record in runs.items() if _draw_once(ledger, run_id, record))


def _draw_once(ledger: Ledger, run_id: str, record_digest: str) -> bool:
    state = ledger.run_state(run_id)
    # The metric is logged when all plots are there: a kill between two of them leaves none.
    if state is None or metric(PHASE) in state.metrics:
        return False
    record = record_of(ledger, run_id, record_digest, f"run {run_id}")
    if "panel" in record:  # a panel has no trace
        return False
    _draw_into_run(ledger, run_id, record)
    return True


def draw_again(ledger: Ledger, run_id: str, record_digest: str) -> tuple[str, ...]:
    """Draw the plots of a link into its run, whatever is there; return their paths.

    Raises
    ------
    LedgerCorrupt
        If record, trace or audit are not what was registered.
    """
    record = record_of(ledger, run_id, record_digest, f"run {run_id}")
    return _draw_into_run(ledger, run_id, record)


def draw_into(ledger: Ledger, run_id: str, record_digest: str, folder: Path) -> tuple[str, ...]:
    """Draw the plots of a link below `folder`, from what its record lists; return their paths there.

    Raises
    ------
    LedgerCorrupt
        If record, trace or audit are not what was registered.
    """
    record = record_of(ledger, run_id, record_digest, f"run {run_id}")
    trace, audit = _trace_and_audit(ledger, run_id, record)
    return _draw(trace, audit, folder)


def _draw_into_run(ledger: Ledger, run_id: str, record: dict[str, Any]) -> tuple[str, ...]:
    phases = Phases()
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        folder = Path(scratch)
        with phases(PHASE):
            trace, audit = _trace_and_audit(ledger, run_id, record)
            drawn = _draw(trace, audit, folder)
            failpoints.reach("drawn")
            ledger.upload(run_id, folder)
    ledger.log_metrics(run_id, phases.metrics())
    return drawn


def _trace_and_audit(
    ledger: Ledger, run_id: str, record: dict[str, Any]
) -> tuple[xr.DataTree, pd.DataFrame | None]:
    """Fetch trace and audit of a link, each checked against its record."""
    if "panel" in record:
        raise not_of_panels(record["chain"], "it has no trace that could be drawn")
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        trace = read_trace(_fetched(ledger, run_id, record, Artifact.TRACE, Path(scratch)))
        if Artifact.AUDIT not in record["artifacts"]:
            return trace, None
        path = _fetched(ledger, run_id, record, Artifact.AUDIT, Path(scratch))
        return trace, read_table(path)


def _fetched(ledger: Ledger, run_id: str, record: dict[str, Any], name: str, folder: Path) -> Path:
    return fetch_listed(ledger, run_id, record, name, folder, f"The artifact {name} of run {run_id}")


def _draw(trace: xr.DataTree, audit: pd.DataFrame | None, folder: Path) -> tuple[str, ...]:
    """Draw whatever the trace allows; return the paths below `folder`."""
    from lindley.report import figures  # matplotlib is imported when there is something to draw

    made = {"prior_posterior": figures.prior_posterior_figure(trace)}
    if "sample_stats" in trace.children:
        made["ranks"] = figures.rank_figure(trace)
    if "posterior_predictive" in trace.children:
        made["posterior_predictive"] = figures.predictive_figure(trace)
    if audit is not None:
        made["audit"] = figures.audit_figure(audit)
    paths = tuple(f"{Artifact.PLOTS}{name}.png" for name in PLOTS if name in made)
    (folder / Artifact.PLOTS).mkdir(parents=True, exist_ok=True)
    for path, figure in zip(paths, made.values(), strict=True):
        figures.save(figure, folder / path)
    return paths
