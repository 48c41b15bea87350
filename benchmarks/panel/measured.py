"""What a scenario measures: one row of results.csv."""

from __future__ import annotations

import resource
import time
from dataclasses import asdict, dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Measured:
    """One method at one link.

    Parameters
    ----------
    scenario, method, link
        What was run. Link 1 starts from the model's own priors.
    members, processes
        Number of members, and of processes that share them.
    seconds, cpu_seconds
        Wall-clock seconds, and CPU seconds of all processes; compilation is in `compile_seconds` only.
    compile_seconds
        CPU seconds before the first member is done, over all processes.
    peak_mb
        Largest resident memory of a process.
    approximations, nuts, failed
        Members by sampler, and those that failed the gate or raised an error.
    ess
        Mean over members of the smallest bulk effective sample size of a coefficient, by the draws.
    match_ess
        Median over members of as many independent draws as would give moments as precise as those that are
        carried forward: Lindley's are calibrated (`lindley.prior.stein`), a rival's those of plain draws.
    coverage, coverage_se
        Share of the true coefficients within their 90% intervals, and its standard error over members.
    calls, written_mb
        Calls of MLflow's client, and megabytes that the update added to ledger and store.
    note
        What else has to be said.
    """

    scenario: str
    method: str
    link: int
    members: int
    processes: int
    seconds: float
    cpu_seconds: float
    compile_seconds: float = 0.0
    peak_mb: float = 0.0
    approximations: int = 0
    nuts: int = 0
    failed: int = 0
    ess: float = np.nan
    match_ess: float = np.nan
    coverage: float = np.nan
    coverage_se: float = np.nan
    calls: int = 0
    written_mb: float = np.nan
    note: str = ""

    def as_row(self) -> dict[str, object]:
        """Return the row of results.csv, with the rates that follow."""
        row = asdict(self)
        wanted = {"ess_per_cpu_second": self.ess, "match_ess_per_cpu_second": self.match_ess}
        row["members_per_second"] = self.members / self.seconds if self.seconds else np.nan
        row["cpu_ms_per_member"] = 1000 * self.cpu_seconds / self.members if self.members else np.nan
        for name, ess in wanted.items():
            row[name] = ess * self.members / self.cpu_seconds if self.cpu_seconds else np.nan
        return {name: f"{v:.4g}" if isinstance(v, float) else v for name, v in row.items()}


#: Columns of results.csv.
COLUMNS = (
    *(one.name for one in fields(Measured)),
    "members_per_second",
    "cpu_ms_per_member",
    "ess_per_cpu_second",
    "match_ess_per_cpu_second",
)


class Clock:
    """Wall-clock and CPU seconds since it was made; CPU counts all threads of this process."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Return the seconds."""
        return time.perf_counter() - self._wall, time.process_time() - self._cpu


def peak_mb() -> float:
    """Return the largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def coverage_of(inside: np.ndarray) -> tuple[float, float]:
    """Return the share that is inside [member, coefficient], and the standard error over members."""
    each = inside.mean(axis=1)
    error = float(each.std(ddof=1) / np.sqrt(len(each))) if len(each) > 1 else np.nan
    return float(each.mean()), error
