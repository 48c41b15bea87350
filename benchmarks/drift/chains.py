"""Run a chain over a stream as updates would, and compare every link with the exact posterior."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from threadpoolctl import threadpool_limits

from benchmarks.drift.streams import Stream, batches
from benchmarks.drift.truth import exact
from lindley.batch.batch import batch_from_frame
from lindley.inference.info import Fit
from lindley.inference.inputs import Data, Options
from lindley.inference.memory_chain import MemoryChain, advance, refit
from lindley.inference.trace import weighted_row
from lindley.model.declaration import load_file
from lindley.model.graph import carried_variables
from lindley.model.policy import Policy
from lindley.seeds import derive_seed

MODELS = Path(__file__).parent / "models"
COLUMNS = (
    "stream",
    "family",
    "model",
    "link",
    "kind",
    "rows",
    "again",
    "true_error",
    "mean_error",
    "log_sd_error",
    "worst",
    "stated_error",
    "drift",
    "monte_carlo",
    "match_ess",
    "conflict_p",
    "flags",
    "refused",
    "seconds",
)
Row = dict[str, Any]

#: Kinds of warnings, by their words. A warning of no kind is `other`.
KINDS = {
    "divergences": r"of draws diverged",
    "match": r"^k-hat .* of the matched prior",
    "budget": r"^budget ",
    "doubt": r"earlier match(es)? could not be trusted",
    "drift": r"earlier matches moved the result",
    "conflict": r"the batch conflicts with its prior",
    "monitor": r"of static chains of .* are flagged",
    "sd": r"Monte Carlo error of",
    "unmeasured": r"is unknown|are expected to have moved",
    "again": r"^the gate refused a fit at first",
}
#: Warnings that say that the reported belief may be wrong. The others concern the data or the next link.
ERROR_KINDS = frozenset({"budget", "doubt", "drift", "sd", "unmeasured", "other"})
#: Warnings about the data: the batch, or the stream, contradicts the belief or the model.
DATA_KINDS = frozenset({"conflict", "monitor"})


@threadpool_limits.wrap(limits=1, user_api="blas")
def run_stream(stream: Stream, refit_rows: int | None = None) -> Iterator[Row]:
    """Yield one row per link, an update or a pooled refit that follows by policy: true beside stated error.

    A batch whose fit the gate refuses is quarantined, as by an update: neither the chain nor the exact
    posterior counts it.

    Parameters
    ----------
    stream
        The stream.
    refit_rows
        Another `Policy.refit_rows` than the default.
    """
    declaration = load_file(MODELS / f"{stream.model}.py")
    if refit_rows is not None:
        policy = replace(declaration.policy, refit_rows=refit_rows)
        declaration = replace(declaration, policy=policy)
    chain, counted = MemoryChain(), []
    carried: tuple[str, ...] = ()
    for place, frame in enumerate(batches(stream)):
        batch = batch_from_frame(frame, declaration, f"batch {place + 1}")
        carried = carried or carried_variables(declaration, batch.frame())
        data = Data(declaration=declaration, batches=(batch,), carried=carried)
        begun = time.perf_counter()
        grown, found = advance(chain, data, Options(seed=derive_seed(stream.name, str(place))))
        seconds = time.perf_counter() - begun
        known = pd.concat([*counted, frame], ignore_index=True)
        yield _row(stream, place, found, known) | {"kind": "update", "seconds": seconds}
        if not found.assessment.gate.passed:
            continue
        chain, counted = grown, [known]
        if refit_due(found, declaration.policy, len(known)):
            begun = time.perf_counter()
            grown, found = refit(chain, data, Options(seed=derive_seed(stream.name, str(place), "rebase")))
            seconds = time.perf_counter() - begun
            yield _row(stream, place, found, known) | {"kind": "rebase", "seconds": seconds}
            chain = grown if found.assessment.gate.passed else chain


def refit_due(found: Fit, policy: Policy, rows: int) -> bool:
    """Whether the policy asks for a pooled refit after an update; see `lindley.operations.rebase`."""
    limit, pooled = policy.rebase_at_drift, found.start is None
    drift = found.assessment.metrics["drift"]
    return limit is not None and not pooled and drift >= limit and rows <= policy.rebase_rows


def _row(stream: Stream, place: int, found: Fit, rows: pd.DataFrame) -> Row:
    metrics, gate = found.assessment.metrics, found.assessment.gate
    return {
        "stream": stream.name,
        "family": stream.family,
        "model": stream.model,
        "link": place + 1,
        "rows": len(rows),
        "again": found.replayed,
        **errors(found, exact(stream.model, rows)),
        "stated_error": metrics.get("stated_error", np.nan),
        "drift": metrics["drift"],
        "monte_carlo": max(1 / np.sqrt(metrics["ess_bulk_min"]), metrics["sd_error"]),
        "match_ess": metrics["match_ess"],
        "conflict_p": metrics.get("conflict_p", np.nan),
        "flags": " ".join(sorted({kind(warning) for warning in gate.warnings})),
        "refused": "; ".join(gate.reasons),
    }


def errors(found: Fit, truth: dict[str, tuple[float, float]]) -> Row:
    """Return the errors of the reported means and sds against the exact posterior, and the worst quantity.

    The means and sds are those of the link's summary: of calibrated draws.
    """
    weights, drawn = found.sampled.calibration.weights, quantities(found)
    if drawn.keys() != truth.keys():
        raise ValueError(f"the exact posterior has {sorted(truth)}, the fit has {sorted(drawn)}")
    worst, mean_error, log_sd_error = ("", -1.0), 0.0, 0.0
    for name, (mean, sd) in truth.items():
        own = weighted_row(drawn[name], weights)
        off, wider = abs(own["mean"] - mean) / sd, abs(np.log(own["sd"] / sd))
        mean_error, log_sd_error = max(mean_error, off), max(log_sd_error, wider)
        worst = max(worst, (name, max(off, wider)), key=lambda item: item[1])
    return {
        "true_error": max(mean_error, log_sd_error),
        "mean_error": mean_error,
        "log_sd_error": log_sd_error,
        "worst": worst[0],
    }


def quantities(found: Fit) -> dict[str, np.ndarray]:
    """Return a fit's draws [draw] of the parameters and, where one has bounds, of its coordinate."""
    drawn: dict[str, np.ndarray] = {}
    for name, values in found.draws.quantities.values.items():
        flat = values.reshape(values.shape[0] * values.shape[1], -1)
        if values.ndim > 2:
            drawn |= {f"{name}[x{i}]": column for i, column in enumerate(flat.T)}
            continue
        drawn[name] = flat[:, 0]
        if name in ("rate", "sigma"):
            drawn[f"log {name}"] = np.log(flat[:, 0])
        elif name == "theta":
            drawn[f"logit {name}"] = np.log(flat[:, 0] / (1 - flat[:, 0]))
    return drawn


def kind(warning: str) -> str:
    """Return the kind of a warning of the gate."""
    return next((name for name, words in KINDS.items() if re.search(words, warning)), "other")
