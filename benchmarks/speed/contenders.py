"""The methods: Lindley, its sampling alone, and the usual ways with PyMC.

An update takes a batch file. `Contender.update` is measured, `Contender.ready` is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import xarray as xr

import lindley
from benchmarks.speed import rivals
from benchmarks.speed.measure import LINDLEY, SAMPLING
from benchmarks.speed.posterior import Found, found_in
from benchmarks.speed.targets import Target
from flows.direct import core_steps
from flows.sequences.update import update
from lindley.workspace import Workspace


class Contender(Protocol):
    """One method, with the state of its own stream."""

    method: str

    def ready(self, link: int, files: Sequence[Path]) -> bool:
        """Prepare an update, unmeasured; returns whether this method has that link."""

    def update(self, link: int, files: Sequence[Path]) -> None:
        """Make a link from the newest of the files so far; measured."""

    def found(self) -> Found:
        """Return the posterior of the newest update."""

    def links(self, link: int) -> int:
        """Return the number of updates behind the posterior after `link`."""


@dataclass
class Lindley:
    """Lindley end to end, from the batch file to the registered head; plots come later and are left out.

    Parameters
    ----------
    workspace, chain
        Workspace and name of the chain.
    variables
        Free variables to compare.
    method
        Name in the table.
    """

    workspace: Workspace
    chain: str
    variables: tuple[str, ...]
    method: str = LINDLEY

    def ready(self, link: int, files: Sequence[Path]) -> bool:
        return True

    def update(self, link: int, files: Sequence[Path]) -> None:
        accepted(update(core_steps(plots=False), self.workspace, self.chain, str(files[-1].absolute())))

    def found(self) -> Found:
        trace = lindley.load(f"{self.chain}@head", workspace=self.workspace).trace()
        return found_in(trace, self.variables)

    def links(self, link: int) -> int:
        return link


@dataclass
class SamplingAlone:
    """nutpie's own compiled model of the same batch and prior, sampled with the same settings.

    The prior is the joint normal of the link before, in coordinates in which it is standard normal; the
    batch is data of the compiled function too. Only `nutpie.sample` is measured.
    """

    before: Lindley
    target: Target
    method: str = SAMPLING
    trace: xr.DataTree | None = None
    _prior: tuple[np.ndarray, np.ndarray] | None = None
    _bound: Any = None

    def ready(self, link: int, files: Sequence[Path]) -> bool:
        """Bind prior and batch; link 1 is left out, because its prior is the model's own."""
        if link == 1:
            return False
        trace = lindley.load(f"{self.before.chain}@{link - 1}", workspace=self.before.workspace).trace()
        self._prior = joint_normal(trace, self.target)
        self.bind(self._prior, pd.read_parquet(files[-1]))
        return True

    def bind(self, prior: tuple[np.ndarray, np.ndarray], frame: pd.DataFrame) -> None:
        """Give a prior and a batch to the compiled function."""
        self._bound = rivals.bound(self.target, *prior, frame)

    def update(self, link: int, files: Sequence[Path]) -> None:
        self.trace = rivals.sampled(self._bound, link)

    def found(self) -> Found:
        return found_in(rivals.known(self.trace), self.target.variables)

    def links(self, link: int) -> int:
        return 2  # one match: Lindley's belief before the link


def accepted(result: Any) -> None:
    """Raise unless a file became the head: the time of a refused update does not count."""
    if result.status != "accepted":
        raise RuntimeError(f"{result.file} was {result.status}: {result.message}")


def no_progress(done: int, total: int) -> None:
    """Show nothing."""


def joint_normal(trace: xr.DataTree, target: Target) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and Cholesky factor of the carried coordinates of a link."""
    group = trace["coordinates"].dataset
    names = [str(name).partition("[")[0] for name in group["coordinate"].values]
    order = np.concatenate([[i for i, name in enumerate(names) if name == v] for v in target.variables])
    u = group["u"].values.reshape(-1, len(names))[:, order.astype(int)]
    weights = group["weight"].values.ravel() if "weight" in group else np.full(len(u), 1 / len(u))
    mean = weights @ u
    return mean, np.linalg.cholesky((u - mean).T @ (weights[:, None] * (u - mean)))
