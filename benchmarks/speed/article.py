"""The article's workflow on PyMC3, if a Python 3.9 with PyMC3 is installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.speed.measure import ARTICLE, COLD, PASSED, REFUSED, WARM, Row, stopwatch
from benchmarks.speed.posterior import Reference
from benchmarks.speed.streams import Bench
from lindley.inference.diagnostics.gate import Thresholds

#: Environment variable with the path of that Python.
PYTHON = "LINDLEY_PYMC3_PYTHON"
SCRIPT = "baseline_regression_pymc3.py"
DATA = "regression_batches.parquet"


def warm(bench: Bench, references: Sequence[Reference]) -> None:
    """Run the stream by the article's script, which cannot take turns with the other methods."""
    _measure(bench, references, "warm", WARM)


def cold(bench: Bench, references: Sequence[Reference]) -> None:
    """Run the first batch alone, from the start of the process, with a warm compile cache."""
    _measure(bench, references[:1], "cold", COLD)


def _measure(bench: Bench, references: Sequence[Reference], scenario: str, process: str) -> None:
    python = os.environ.get(PYTHON, "")
    if not python:
        bench.notify(f"SKIPPED: {ARTICLE} needs a Python 3.9 with PyMC3 in {PYTHON}")
        return
    source, folder = bench.reference / "article", bench.fresh("article")
    # The script writes beside itself.
    for name in (SCRIPT, DATA):
        shutil.copyfile(source / name, folder / name)
    result = folder / "result.json"
    command = [python, str(folder / SCRIPT), "--out-json", str(result), "--batches", str(len(references))]

    def update() -> None:
        subprocess.run(command, cwd=folder, check=True, stdin=subprocess.DEVNULL)

    update()  # fills the compile cache
    _, took = stopwatch(update)
    rows = rows_of(json.loads(result.read_text(encoding="utf-8")), references, scenario)
    for row in rows:
        whole = {"seconds": took.seconds, "cpu_seconds": took.cpu_seconds} if process == COLD else {}
        bench.emit(Row(**row | whole, process=process))


def rows_of(document: dict[str, Any], references: Sequence[Reference], scenario: str) -> list[dict[str, Any]]:
    """Return the script's results, one row per batch.

    Their Monte Carlo standard errors are those of a chain that matches margins; the errors of such a chain
    are larger by orders of magnitude anyway (see the scenario's table).
    """
    limits = Thresholds()
    rows = []
    for place, (batch, reference) in enumerate(zip(document["batches"], references, strict=True), start=1):
        error = np.abs(np.array(batch["posterior"]["mean"]) - reference.mean) / reference.sd
        ess = float(batch["ess_bulk_min"])
        inherited = (place - 1) * (error.size + 1) / 4
        draws = document["settings"]["chains"] * document["settings"]["draws"]
        passed = (
            batch["r_hat_max"] <= limits.r_hat
            and ess >= limits.ess
            and batch["divergences"] <= limits.divergences * draws
        )
        rows.append(
            {
                "scenario": scenario,
                "method": ARTICLE,
                "link": place,
                "seconds": float(batch["seconds"]),
                "cpu_seconds": float(batch["cpu_seconds"]),
                "ess_min": ess,
                "mean_error_sd": float(error.max()),
                "mean_error_mcse": float(error.max() / np.sqrt((1 + inherited) / ess)),
                "gate": PASSED if passed else REFUSED,
            }
        )
    return rows
