"""Updates from the start of a process to the registered head."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.speed import article
from benchmarks.speed.contenders import Contender, Lindley, SamplingAlone
from benchmarks.speed.measure import COLD
from benchmarks.speed.once import read_trace
from benchmarks.speed.registry import Registry
from benchmarks.speed.rivals import Pymc
from benchmarks.speed.streams import Bench, batches_of, run
from benchmarks.speed.targets import MODELS, REGRESSION, exact_regression

REGRESSION_FILE = Path("article/regression_batches.parquet")
ROOT = Path(__file__).parents[2]
#: Links that fill the caches on disk: one from genesis, one from a belief.
UNMEASURED = 2
#: Variables that would direct a process to another workspace than its own.
ELSEWHERE = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PREFECT_API_URL", "LINDLEY_DATA")


def cold(bench: Bench) -> None:
    """Links of the regression stream, each in a new process."""
    frames = batches_of(REGRESSION.chain, MODELS, bench.reference / REGRESSION_FILE)
    frames = frames[: UNMEASURED + (2 if bench.quick else 5)]
    references = [exact_regression(pd.concat(frames[: i + 1])) for i in range(len(frames))]
    ours = ColdLindley(bench.workspace(MODELS), REGRESSION.chain, REGRESSION.variables)
    ways: list[Contender] = [ours, ColdSampling(ours, REGRESSION, folder=bench.fresh("sampling"))]
    for pooled in (False, True):
        folder = bench.fresh("rival")
        registry = Registry(folder, REGRESSION.chain)
        ways.append(ColdPymc(registry, REGRESSION, pooled=pooled, folder=folder))
    files = bench.files(REGRESSION.chain, frames)
    run(bench, "cold", ways, files, references, process=COLD, begin=UNMEASURED + 1)
    article.cold(bench, references)


@dataclass
class ColdLindley(Lindley):
    """Lindley's command line."""

    def update(self, link: int, files: Sequence[Path]) -> None:
        workspace = self.workspace
        own = {"LINDLEY_HOME": str(workspace.root), "LINDLEY_MODELS": str(workspace.models)}
        command = ("update", "--direct", "--no-plots", "--json", self.chain, str(files[-1]))
        child("flows.cli", *command, environment=own)


@dataclass
class ColdSampling(SamplingAlone):
    """nutpie's import, compilation and sampling; nothing is logged.

    Parameters
    ----------
    folder
        Exchanges prior and trace with the process.
    """

    folder: Path = Path()

    def bind(self, prior: tuple[np.ndarray, np.ndarray], frame: pd.DataFrame) -> None:
        np.savez(self.folder / "prior.npz", mean=prior[0], factor=prior[1])

    def update(self, link: int, files: Sequence[Path]) -> None:
        once("sampling", self.folder, self.target.chain, link, files)
        self.trace = read_trace(self.folder)


@dataclass
class ColdPymc(Pymc):
    """PyMC in a process of its own.

    Parameters
    ----------
    folder
        Of the registry.
    """

    folder: Path = Path()

    def update(self, link: int, files: Sequence[Path]) -> None:
        once("pooled" if self.pooled else "rebuilt", self.folder, self.target.chain, link, files)


def once(what: str, folder: Path, chain: str, link: int, files: Sequence[Path]) -> None:
    """Make one link of a rival in a new process."""
    child("benchmarks.speed.once", what, str(folder), chain, str(link), *map(str, files), environment={})


def child(module: str, *arguments: str, environment: dict[str, str]) -> None:
    """Run a module in a new process to its end.

    Raises
    ------
    RuntimeError
        If it fails.
    """
    inherited = {name: value for name, value in os.environ.items() if name not in ELSEWHERE}
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=inherited | environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} ended with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}")
