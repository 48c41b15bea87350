"""Run streams by several methods in turns."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.speed.assessment import assess
from benchmarks.speed.contenders import Contender, Lindley, SamplingAlone
from benchmarks.speed.measure import WARM, Row, in_turns, stopwatch
from benchmarks.speed.posterior import Reference
from benchmarks.speed.registry import Registry
from benchmarks.speed.rivals import Pymc
from benchmarks.speed.targets import Target
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace


@dataclass
class Bench:
    """The environment of a scenario.

    Parameters
    ----------
    folder
        For all output; removed afterwards.
    reference
        Folder of the reference data.
    quick
        Run a short version.
    emit
        Takes each row as soon as it is measured.
    notify
        Takes a message about progress.
    """

    folder: Path
    reference: Path
    quick: bool
    emit: Callable[[Row], None]
    notify: Callable[[str], None]
    _made: int = field(default=0, init=False)

    def fresh(self, name: str) -> Path:
        """Return a new folder."""
        self._made += 1
        path = self.folder / f"{self._made:03d}-{name}"
        path.mkdir(parents=True)
        return path

    def workspace(self, models: Path, tracking_uri: str = "") -> Workspace:
        """Return a workspace in a new folder."""
        root = self.fresh("lindley")
        data = root / "data"
        return Workspace(
            root=root,
            models=models,
            landing=data / "landing",
            store=data / "store",
            rejected=data / "rejected",
            tracking_uri=tracking_uri or f"sqlite:///{root / 'mlflow.db'}",
        )

    def files(self, name: str, frames: Sequence[pd.DataFrame]) -> list[Path]:
        """Write batches as files, in order."""
        folder = self.fresh("batches")
        return [write_batch(folder, name, number, frame) for number, frame in enumerate(frames, start=1)]


def batches_of(chain: str, models: Path, source: Path) -> list[pd.DataFrame]:
    """Return the batches that the `split` of a chain cuts from a source.

    Raises
    ------
    ValueError
        If its declaration has no `split`.
    """
    split = load_declaration(chain, models).split
    if split is None:
        raise ValueError(f"the declaration of the chain {chain} has no split")
    return [frame for _, frame in split(str(source))]


def write_batch(folder: Path, name: str, number: int, frame: pd.DataFrame) -> Path:
    """Write one batch."""
    path = folder / f"{name}-{number:04d}.parquet"
    frame.to_parquet(path)
    return path


def all_ways(bench: Bench, target: Target, *, pooled: bool = True) -> list[Contender]:
    """Return Lindley and its rivals, each at the start of its stream."""
    ours = Lindley(bench.workspace(target.models), target.chain, target.variables)
    rivals: list[Contender] = [SamplingAlone(ours, target)]
    for all_rows in (False, True) if pooled else (False,):
        registry = Registry(bench.fresh("rival"), target.chain)
        rivals.append(Pymc(registry, target, pooled=all_rows))
    return [ours, *rivals]


def run(
    bench: Bench,
    scenario: str,
    contenders: Sequence[Contender],
    files: Sequence[Path],
    references: Sequence[Reference | None],
    *,
    process: str = WARM,
    turn: int = 0,
    begin: int = 1,
) -> None:
    """Make the same links by all methods, one after the other at each link.

    Parameters
    ----------
    files, references
        Batches, and the posterior after each; as many links are made as there are references.
    turn
        Number of this run; determines the order of the methods.
    begin
        First link whose rows are emitted.
    """
    lowest: dict[str, float] = {}
    for link, reference in enumerate(references, start=1):
        for contender in in_turns(contenders, turn + link):
            row = one(scenario, contender, link, files[:link], reference, process, lowest)
            if row is not None and link >= begin:
                bench.emit(row)


def one(
    scenario: str,
    contender: Contender,
    link: int,
    files: Sequence[Path],
    reference: Reference | None,
    process: str = WARM,
    lowest: dict[str, float] | None = None,
) -> Row | None:
    """Measure one update; None if the method has no such link.

    Parameters
    ----------
    lowest
        The smallest ESS of any link so far by method; changed.
    """
    lowest = {} if lowest is None else lowest
    if not contender.ready(link, files):
        return None
    # Pending writes of the method before must not count for this one.
    os.sync()
    _, took = stopwatch(lambda: contender.update(link, files))
    before = lowest.get(contender.method, float("inf"))
    quality = assess(contender.found(), reference, contender.links(link), before)
    lowest[contender.method] = min(before, quality["ess_min"])
    return Row(
        scenario=scenario,
        method=contender.method,
        link=link,
        seconds=took.seconds,
        cpu_seconds=took.cpu_seconds,
        process=process,
        **quality,
    )
