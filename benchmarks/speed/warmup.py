"""Find the shortest warm-up of a target that its prior whitens: ``python -m benchmarks.speed.warmup``.

The study runs each case's chain up to its last batch and samples the target of that batch with warm-ups of
several lengths and the other default settings. The gate assesses each fit as it would a link.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.fidelity.cases import CASES, Case, load_cases
from benchmarks.fidelity.methods import Settings, run_chain
from lindley.batch.batch import batch_from_frame
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.sampling import FitSettings, assess_sampling, sample
from lindley.seeds import derive_seed
from lindley.target.prepare import prepare
from lindley.target.problem import Problem
from lindley.timing import Phases

TUNES = (50, 100, 150, 200, 300, 500)


@dataclass(frozen=True)
class Row:
    """Result of one length of warm-up in one case: medians over seeds, or the worst of them.

    Parameters
    ----------
    case, tune, fits
        Case, length of the warm-up, number of fits.
    passed
        Number of fits that passed the gate at the first attempt.
    r_hat_max, divergence_rate
        The worst.
    ess_min
        Smallest bulk or tail ESS, the median over fits.
    cpu_seconds
        Of sampling, all chains together; the median.
    ess_per_evaluation
        Smallest ESS per evaluation of the log density after the warm-up; the median.
    """

    case: str
    tune: int
    fits: int
    passed: int
    r_hat_max: float
    divergence_rate: float
    ess_min: float
    cpu_seconds: float
    ess_per_evaluation: float


def last_problem(case: Case) -> Problem:
    """Run a case's chain up to its last batch and return the target of that one."""
    declaration = case.declaration
    before = run_chain(case.name, declaration, case.batches[:-1], Settings())
    batch = batch_from_frame(case.batches[-1], declaration, "last")
    carried = before.last.problem.graph.coordinates.variables
    return prepare(before.chain.beliefs[-1].matched, [batch], declaration, carried, Phases())


def measure(case: str, problem: Problem, tune: int, fits: int) -> Row:
    """Sample a target `fits` times with one length of warm-up."""
    found: list[dict[str, Any]] = []
    settings = replace(FitSettings(), tune=tune, attempts=1)
    for number in range(fits):
        begun = time.process_time()
        draws = sample(
            problem.bound,
            start=problem.starts.dispersed,
            settings=settings,
            seed=derive_seed(case, str(tune), str(number)),
        )
        cpu = time.process_time() - begun
        sampling = assess_sampling(problem.names, problem.points(draws.x), draws, Thresholds())
        ess = float(min(sampling.convergence.ess_bulk.min(), sampling.convergence.ess_tail.min()))
        found.append(
            {
                "passed": not sampling.reasons,
                "r_hat": float(sampling.convergence.r_hat.max()),
                "divergences": sampling.divergence_rate,
                "ess": ess,
                "cpu": cpu,
                "per_evaluation": ess / float(np.sum(draws.stats["n_steps"])),
            }
        )
    return Row(
        case=case,
        tune=tune,
        fits=fits,
        passed=sum(fit["passed"] for fit in found),
        r_hat_max=max(fit["r_hat"] for fit in found),
        divergence_rate=max(fit["divergences"] for fit in found),
        ess_min=median(fit["ess"] for fit in found),
        cpu_seconds=median(fit["cpu"] for fit in found),
        ess_per_evaluation=median(fit["per_evaluation"] for fit in found),
    )


def study(cases: Sequence[Case], fits: int) -> Iterator[Row]:
    """Measure all cases; one fit of each target compiles it and does not count."""
    for case in cases:
        problem = last_problem(case)
        measure(case.name, problem, TUNES[0], 1)
        for tune in TUNES:
            yield measure(case.name, problem, tune, fits)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study; returns 0, or 2 without cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=Path, default=CASES, help="folder of cases")
    parser.add_argument("--only", nargs="+")
    parser.add_argument("--fits", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "warmup.csv")
    options = parser.parse_args(arguments)
    console = Console()
    if not options.cases.is_dir():
        console.print(f"No cases in {options.cases.name}")
        return 2
    rows = []
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(Row.__dataclass_fields__))
        writer.writeheader()
        for row in study(load_cases(options.cases, options.only), options.fits):
            rows.append(row)
            writer.writerow({k: f"{v:.5g}" if isinstance(v, float) else v for k, v in asdict(row).items()})
            file.flush()
            console.print(f"{row.case} {row.tune}: {row.passed}/{row.fits}, ESS {row.ess_min:.0f}")
    console.print(_table(rows))
    return 0


def _table(rows: Sequence[Row]) -> Table:
    """Return ESS and CPU time of each length relative to the longest, medians over cases."""
    table = Table("warm-up", "fits passed", "ESS", "CPU", "ESS per evaluation", "largest R-hat")
    longest = {row.case: row for row in rows if row.tune == TUNES[-1]}
    for tune in TUNES:
        mine = [row for row in rows if row.tune == tune and row.case in longest]
        if not mine:
            continue
        ratios = [
            median(getattr(row, name) / getattr(longest[row.case], name) for row in mine)
            for name in ("ess_min", "cpu_seconds", "ess_per_evaluation")
        ]
        table.add_row(
            str(tune),
            f"{sum(row.passed for row in mine)} of {sum(row.fits for row in mine)}",
            *(f"{ratio:.2f}" for ratio in ratios),
            f"{max(row.r_hat_max for row in mine):.3f}",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
