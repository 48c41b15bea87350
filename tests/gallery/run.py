"""Run the gallery: models as PyMC users write them, three batches each, against PyMC's pooled fit.

Each model is one chain file whose `split` simulates its batches. It has a process of its own, in which all
caches of compiled code are empty at first. The batches go through the pipeline one by one (plan, fit, log,
register, on a ledger in memory), and right after each update `pm.sample` fits the rows that the update
fitted, so that both have the same machine. A model's row is written when it is done: a run goes on where it
stopped.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

HERE = Path(__file__).parent
RESULTS = HERE / "results.csv"
FIELDS = (
    "model", "digest", "what", "outcome", "adds_up", "worst_mean", "sd_low", "sd_high", "quarantined",
    "update_seconds", "sample_seconds", "notes",
)  # fmt: skip
#: How PyMC fits: as a user would, and cheaply, in one process, for tests.
USUAL = {"draws": 1500, "tune": 1000, "chains": 4, "target_accept": 0.95}
CHEAP = {"draws": 1000, "tune": 500, "chains": 2, "cores": 1}


@dataclass(frozen=True)
class Case:
    """A model of the gallery."""

    name: str
    path: Path

    @property
    def what(self) -> str:
        """The first sentence of the file."""
        return self.path.read_text(encoding="utf-8").split('"""')[1].strip()

    def load(self) -> Any:
        """Load the declaration."""
        from lindley.model.declaration import load_file

        return load_file(self.path)


def cases() -> list[Case]:
    """Return all models, by name."""
    return [Case(path.stem, path) for path in sorted((HERE / "models").glob("*.py"))]


def main(argv: list[str] | None = None) -> int:
    """Run what has no result yet; returns 1 if a model failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", help="names of models")
    parser.add_argument("--again", action="store_true", help="also run what has a result")
    parser.add_argument("--minutes", type=float, help="start no model after so many minutes")
    parser.add_argument("--here", action="store_true", help="in this process, with the caches that there are")
    chosen = parser.parse_args(argv)
    begin, failed = time.monotonic(), False
    for case in cases():
        if chosen.only and case.name not in chosen.only:
            continue
        if chosen.minutes is not None and time.monotonic() - begin > 60 * chosen.minutes:
            print("time is up; the next run goes on from here")
            break
        done = {row["model"]: row["digest"] for row in results()}
        if not chosen.again and done.get(case.name) == case.load().model_digest:
            continue
        print(f"{case.name}: {case.what}", flush=True)
        if not chosen.here:
            failed |= _in_own_process(case) != 0
            continue
        row = run(case)
        store(row)
        failed |= row["outcome"] == "error"
        print(json.dumps(row), flush=True)
    return int(failed)


def _in_own_process(case: Case) -> int:
    """Run one model in a process with empty caches; return its exit code."""
    command = [sys.executable, "-m", "tests.gallery.run", "--here", "--again", "--only", case.name]
    with tempfile.TemporaryDirectory(prefix="lindley-gallery-") as caches:
        flags = [os.environ.get("PYTENSOR_FLAGS", ""), f"base_compiledir={caches}"]
        environment = os.environ | {"PYTENSOR_FLAGS": ",".join(filter(None, flags))}
        return subprocess.run(command, env=environment, check=False).returncode


def results() -> list[dict[str, str]]:
    """Return the stored results."""
    if not RESULTS.exists():
        return []
    with RESULTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def store(row: dict[str, Any]) -> None:
    """Write a result in place of an earlier one of the same model."""
    rows = sorted([r for r in results() if r["model"] != row["model"]] + [row], key=lambda r: str(r["model"]))
    with RESULTS.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def run(case: Case, seed: str = "1", *, cheap: bool = False) -> dict[str, Any]:
    """Run one model; an exception is a result too.

    Parameters
    ----------
    cheap
        Leave out the fit for time, and make PyMC's pooled fit short.
    """
    declaration = case.load()
    row: dict[str, Any] = dict.fromkeys(FIELDS, "")
    row |= {"model": case.name, "digest": declaration.model_digest, "what": case.what}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return row | _run(declaration, seed, cheap)
    except Exception as error:
        traceback.print_exc(file=sys.stderr)
        return row | {"outcome": "error", "notes": f"{type(error).__name__}: {str(error)[:150]}"}


def _run(declaration: Any, seed: str, cheap: bool) -> dict[str, Any]:
    from lindley.errors import ModelRefused

    frames = [frame for _, frame in declaration.split(seed)]
    settings = CHEAP if cheap else USUAL
    links: list[Link] = []
    try:
        for link in chain(declaration, frames):
            links.append(link)
            if not cheap:
                link.sampled(declaration, frames, seed, settings)
    except ModelRefused as error:
        return {"outcome": "refused", "notes": str(error.happened)}
    head, meaning = links[-1].info, links[-1].info.meaning
    lost = sum(not link.passed for link in links)
    posterior = links[-1].posterior if links[-1].fitted == len(frames) else None
    if posterior is None:
        posterior = pymc_fit(declaration, frames, seed, settings)
    compared = compare(head, pooled(posterior), declaration)
    notes = list(dict.fromkeys(reason for link in links for reason in link.reasons))
    if compared["by_quantiles"].any():
        names = dict.fromkeys(
            str(label).partition("[")[0] for label in compared.index[compared["by_quantiles"]]
        )
        notes.append(f"median and 90% interval of {', '.join(names)}, whose sd is known to more than 5% only")
    return {
        "outcome": outcome(compared, lost, meaning),
        "adds_up": {True: "yes", False: "no", None: "not tried"}[meaning.adds_up],
        "worst_mean": f"{compared['error'].abs().max():.3f}",
        "sd_low": f"{compared['ratio'].min():.3f}",
        "sd_high": f"{compared['ratio'].max():.3f}",
        "quarantined": lost,
        "update_seconds": " ".join(f"{link.seconds:.1f}" for link in links),
        "sample_seconds": " ".join(f"{link.sample_seconds:.1f}" for link in links),
        "notes": "; ".join(notes)[:300],
    }


def outcome(compared: pd.DataFrame, lost: int, meaning: Any) -> str:
    """Return ``right``, ``flagged`` (rows do not add up, or batches are quarantined) or ``off``."""
    if lost or meaning.adds_up is False:
        return "flagged"
    within = compared["error"].abs().max() <= 0.2 and compared["ratio"].between(0.9, 1.1).all()
    return "right" if within else "off"


@dataclass
class Link:
    """What became of a batch.

    Parameters
    ----------
    info, passed, reasons
        Of its fit and gate.
    fitted
        Number of the newest batches that its update fitted.
    seconds, sample_seconds
        Of the update, and of `pm.sample` on the same rows.
    posterior
        What the latter found.
    """

    info: Any
    passed: bool
    reasons: tuple[str, ...]
    number: int
    fitted: int
    seconds: float
    sample_seconds: float = float("nan")
    posterior: Any = None

    def sampled(
        self, declaration: Any, frames: list[pd.DataFrame], seed: str, settings: dict[str, Any]
    ) -> None:
        """Fit the rows that the update fitted with `pm.sample`."""
        rows = frames[self.number - self.fitted : self.number]
        begin = time.monotonic()
        self.posterior = pymc_fit(declaration, rows, seed, settings)
        self.sample_seconds = time.monotonic() - begin


def chain(declaration: Any, frames: list[pd.DataFrame]) -> Iterator[Link]:
    """Update a chain in memory batch by batch; yield what became of each."""
    from lindley.batch.batch import batch_from_frame
    from lindley.ledger.registration import register_link
    from lindley.operations.log import log_plan
    from lindley.operations.plan import fit_plan
    from lindley.operations.update import plan_update
    from tests.support.fakes import MemoryLedger

    ledger = MemoryLedger()
    for number, frame in enumerate(frames, start=1):
        begin = time.monotonic()
        batch = batch_from_frame(frame, declaration, f"b{number - 1}.csv")
        plan = plan_update(ledger, declaration, batch)
        made = fit_plan(plan)
        assert made is not None
        register_link(ledger, log_plan(ledger, plan, made))
        seconds = time.monotonic() - begin
        again = sum(len(origin.links) for origin in plan.behind[: made.info.fit.undone])
        fitted = len(plan.batches) + again
        yield Link(made.info, made.gate.passed, made.gate.reasons, number, fitted, seconds)


def pymc_fit(declaration: Any, frames: list[pd.DataFrame], seed: str, settings: dict[str, Any]) -> Any:
    """Fit rows with `pm.sample`, as a user would."""
    import pymc as pm

    from lindley.batch.batch import batch_from_frame
    from lindley.model.graph import build

    # As a batch, so that the model gets the same types and order of rows.
    frame = batch_from_frame(pd.concat(frames, ignore_index=True), declaration, "all.csv").frame()
    first = batch_from_frame(frames[0], declaration, "first.csv").frame()
    model = build(declaration, frame, constants=declaration.frozen_constants(first) or None)
    with model:
        return pm.sample(
            **settings, random_seed=int(seed), progressbar=False, compute_convergence_checks=False
        )


def pooled(fit: Any) -> dict[str, np.ndarray]:
    """Return PyMC's draws [chain, draw] by element name, as a summary names them."""
    from lindley.model.natural_scale import element_labels

    posterior = fit["posterior"]
    found = {}
    for name, array in posterior.data_vars.items():
        flat = array.to_numpy().reshape(array.shape[0], array.shape[1], -1)
        labelled = array.transpose("chain", "draw", ...)
        found |= {label: flat[..., i] for i, label in enumerate(element_labels(labelled.rename(name)))}
    return found


def compare(info: Any, draws: dict[str, np.ndarray], declaration: Any) -> pd.DataFrame:
    """Compare the head's carried parameters with the pooled fit: errors in pooled sds, ratios of sds.

    Of state the pooled fit has the quantity at the end of all rows. Where the sd of either is hardly known,
    as that of a Cauchy's tails, median and 90% interval take the place of mean and sd.
    """
    posterior, summary, rows = info.trace["posterior"], info.summary, {}
    ours = {
        label: array.to_numpy().reshape(array.shape[0], array.shape[1], -1)[..., i]
        for array in posterior.data_vars.values()
        for i, label in enumerate(_labels(array))
    }
    blocks = info.fit.belief.matched.coordinates.blocks
    circular = {block.name for block in blocks if block.circular}
    for label in map(str, summary.index[summary["carried"]]):
        name = label.partition("[")[0]
        shown = label.replace(name, declaration.carry.get(name, name), 1)
        if shown not in draws or shown not in summary.index:
            continue
        row, theirs = summary.loc[shown], draws[shown]
        if name in circular:
            theirs = theirs + 2 * np.pi * np.rint((row["mean"] - theirs) / (2 * np.pi))
        found = deviation(row, theirs, hardly_known(ours.get(shown), theirs))
        if found is not None:
            rows[shown] = found
    return pd.DataFrame.from_dict(rows, orient="index")


def _labels(array: Any) -> list[str]:
    from lindley.model.natural_scale import element_labels

    return list(element_labels(array.transpose("chain", "draw", ...)))


def hardly_known(*draws: np.ndarray | None) -> bool:
    """Whether the sd of any draws [chain, draw] has a Monte Carlo error that the gate warns of."""
    from lindley.inference.diagnostics.convergence import sd_errors
    from lindley.inference.diagnostics.gate import Thresholds

    return any(sd_errors(one[..., None])[0] > Thresholds().sd_warn for one in draws if one is not None)


def deviation(row: Any, theirs: np.ndarray, by_quantiles: bool) -> dict[str, Any] | None:
    """Return error and ratio of a row of the head's summary against pooled draws; None of a constant."""
    low, middle, high = np.quantile(theirs, [0.05, 0.5, 0.95])
    width = (high - low) if by_quantiles else float(np.std(theirs, ddof=1))
    if not width > 0:
        return None
    if by_quantiles:
        # The 90% interval of a normal is 3.29 sds wide.
        error, ratio = (row["q50"] - middle) / (width / 3.29), (row["q95"] - row["q05"]) / width
    else:
        error, ratio = (row["mean"] - np.mean(theirs)) / width, row["sd"] / width
    return {"error": error, "ratio": ratio, "by_quantiles": by_quantiles}


if __name__ == "__main__":
    sys.exit(main())
