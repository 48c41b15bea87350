"""Four real streams by prequential log score: each batch is predicted before it updates the belief.

The coefficients of all four models drift, so that a chain that forgets predicts better than a static one. The
score is the sum of the log predictive densities of batches 2 to T. Batch 1 is left out: it has none under the
flat priors of nes_waves, and is the same for all methods.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.table import Table

from benchmarks.fidelity.compare import HARD
from benchmarks.fidelity.methods import Run, Settings, flags_of, labelled, run_chain
from lindley.inference.sampling import FitSettings
from lindley.model.declaration import load_file
from lindley.model.policy import REST, Forgetting

STREAMS = ("nes_waves", "trump_approval", "bike_hourly", "elec2")
MODELS = Path(__file__).parent / "streams_models"
#: The data and their reference posteriors; its README states their origin and licences.
FOLDER = Path(__file__).parent / "streams_data"
#: Changes to a chain's policy, by method. The first two weigh all batches equally; the others forget.
POLICIES: dict[str, dict[str, Any]] = {
    "static": {"rebase_at_drift": None},
    "refitted": {"rebase_at_drift": 0.1},
    "discount 0.9": {"forget": {REST: Forgetting(discount=0.9)}},
    "discount 0.7": {"forget": {REST: Forgetting(discount=0.7)}},
    "grid": {"forget": {REST: Forgetting(grid=(1.0, 0.98, 0.95, 0.9, 0.8, 0.6))}},
}
SETTINGS = Settings(fit=FitSettings(tune=300, draws=750))
COLUMNS = (
    "stream",
    "batches",
    "rows",
    "method",
    "log_score",
    "log_score_per_row",
    "mean_error_sd",
    "sd_ratio_low",
    "sd_ratio_high",
    "flagged",
    "refused",
    "refits",
    "seconds",
)

Row = dict[str, Any]


def run_stream(folder: Path, name: str, method: str, thin: int = 1, together: int = 1) -> Row:
    """Run a stream by one of `POLICIES`.

    A chain that forgets nothing is compared with the reference posterior of all rows, unless rows were left
    out.

    Parameters
    ----------
    folder
        Folder of the streams.
    name, method
        Which stream, and which policy.
    thin, together
        Keep every `thin`-th row of a batch; join `together` batches to one.
    """
    begun = time.perf_counter()
    declaration = load_file(MODELS / f"{name}.py")
    declaration = replace(declaration, policy=replace(declaration.policy, **POLICIES[method]))
    frames = batches_of(folder, name, declaration.schema.names, thin, together)
    found = run_chain(f"{name}/{method}/{thin}/{together}", declaration, frames, SETTINGS)
    scores = [metrics.get("log_predictive", np.nan) for metrics in found.metrics[1:]]
    counted = sum(len(frame) for frame in frames[1:])
    row = dict.fromkeys(COLUMNS, np.nan) | {
        "stream": name if thin == together == 1 else f"{name} (1 row of {thin}, {together} batches in one)",
        "batches": len(frames),
        "rows": sum(len(frame) for frame in frames),
        "method": method,
        "log_score": float(np.sum(scores)),
        "log_score_per_row": float(np.sum(scores) / counted),
        "flagged": bool(flags_of(found, SETTINGS.thresholds)),
        "refused": len(found.refused),
        "refits": found.refits,
        "seconds": time.perf_counter() - begun,
    }
    remembers = "forget" not in POLICIES[method]
    return row | (static_errors(folder, name, found) if remembers and thin == 1 else {})


def batches_of(
    folder: Path, name: str, columns: Sequence[str], thin: int = 1, together: int = 1
) -> list[pd.DataFrame]:
    """Return the batches of a stream, oldest first; a column `row` numbers the rows of the file."""
    data = pd.read_parquet(folder / f"{name}.parquet")
    if "row" not in data:
        data.insert(0, "row", np.arange(len(data), dtype="int64"))
    return [
        rows.iloc[::thin][list(columns)].reset_index(drop=True)
        for _, rows in data.groupby(data["batch"].rank(method="dense").sub(1) // together, sort=True)
    ]


def static_errors(folder: Path, name: str, found: Run) -> Row:
    """Return a chain's errors against the reference posterior of all rows."""
    content = json.loads((folder / f"{name}_reference.json").read_text(encoding="utf-8"))
    params = (content.get("full_posterior") or content["cumulative"][-1])["params"]
    draws = labelled(found.last)
    errors, ratios = [], []
    for parameter, known in params.items():
        own = draws[_label(parameter)]
        errors.append(abs(own.mean() - known["mean"]) / known["sd"])
        ratios.append(own.std(ddof=1) / known["sd"])
    return {
        "mean_error_sd": float(max(errors)),
        "sd_ratio_low": float(min(ratios)),
        "sd_ratio_high": float(max(ratios)),
    }


def wrong(row: Row) -> bool:
    """Whether a chain that forgets nothing differs from the posterior of all rows without a flag.

    The bars are those of hard cases, because the references of elec2 and bike_hourly and the 3,000 draws have
    Monte Carlo errors.
    """
    low, high = HARD.ratio
    off = row["mean_error_sd"] > HARD.mean or row["sd_ratio_low"] < low or row["sd_ratio_high"] > high
    return bool(off and not row["flagged"])


def _label(parameter: str) -> str:
    """Return the model's label of a reference's parameter: ``beta_gallup`` is ``beta[gallup]``."""
    base, _, element = parameter.partition("_")
    return f"{base}[{element}]" if base == "beta" and element else parameter


def table(rows: Sequence[Row]) -> Table:
    """Return the table to print, with each score's lead over the static chain's."""
    shown = Table(title="Streams by prequential log score of batches 2 to T")
    shown.add_column("stream", overflow="fold")
    headers = ("batches", "rows", "method", "log score", "per row", "against static")
    for name in (*headers, "mean error", "sd ratio", "flagged", "refused", "refits", "seconds"):
        shown.add_column(name, justify="left" if name == "method" else "right")
    static = {row["stream"]: row["log_score"] for row in rows if row["method"] == "static"}
    for row in rows:
        lead = row["log_score"] - static.get(row["stream"], np.nan)
        held = np.isfinite(row["mean_error_sd"])
        shown.add_row(
            row["stream"],
            str(row["batches"]),
            str(row["rows"]),
            row["method"],
            f"{row['log_score']:.1f}",
            f"{row['log_score_per_row']:.4f}",
            f"{lead:+.1f}",
            f"{row['mean_error_sd']:.3f}" if held else "",
            f"{row['sd_ratio_low']:.3f} to {row['sd_ratio_high']:.3f}" if held else "",
            "flagged" if row["flagged"] else "DEFECT" if wrong(row) else "",
            str(row["refused"]),
            str(row["refits"]),
            f"{row['seconds']:.0f}",
            end_section=row["method"] == list(POLICIES)[-1],
        )
    return shown
