"""The scenarios of one process: warm, growth, the article's SIR, the hierarchical model."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pymc as pm

from benchmarks.speed import article, cold
from benchmarks.speed.contenders import Contender, Lindley, accepted
from benchmarks.speed.measure import ARTICLE, COLD, QUOTED, Row, in_turns
from benchmarks.speed.posterior import Reference, found_in
from benchmarks.speed.registry import Registry
from benchmarks.speed.rivals import Pymc
from benchmarks.speed.streams import Bench, all_ways, batches_of, one, run, write_batch
from benchmarks.speed.targets import (
    GROUPS,
    MODELS,
    REGRESSION,
    exact_regression,
    simulated_groups,
    simulated_regression,
)
from flows.direct import core_steps
from flows.sequences.update import update
from lindley.inference.diagnostics.convergence import convergence

SIR_FILE = Path("article/sir_article_batches.parquet")
SIR_REFERENCE = Path("article/sir_article_reference.json")
SIR = "sir_article"
SIR_VARIABLES = ("lambda", "mu", "sigma")
#: The article's SIR on PyMC3 3.11.6, 2 cores, quoted from the README of its data: link, seconds, CPU, ESS.
SIR_QUOTED = ((1, float("nan"), 1975.0, 137.0), (2, 1056.0, 1337.0, 161.0))
#: Links that make a process warm, from genesis and from a belief.
WARM_UP = 3


def warm(bench: Bench) -> None:
    """Ten batches of 200 rows, three times in one process, by all methods in turns.

    The rows are dealt anew each time. A model that holds its batch as constants would otherwise be in the
    caches on disk, which never happens to a chain: its batches are new.
    """
    frames = batches_of(REGRESSION.chain, MODELS, bench.reference / cold.REGRESSION_FILE)
    frames, repeats = (frames[:3], 1) if bench.quick else (frames, 3)
    warm_up = dealt(frames, repeats)[: 2 if bench.quick else WARM_UP]
    _all_ways(bench, warm_up, begin=len(warm_up) + 1)
    for turn in range(repeats):
        bench.notify(f"warm: run {turn + 1} of {repeats}")
        _all_ways(bench, dealt(frames, turn), turn=turn)
    article.warm(bench, pooled_references(frames))


def _all_ways(bench: Bench, frames: Sequence[pd.DataFrame], *, turn: int = 0, begin: int = 1) -> None:
    files = bench.files(REGRESSION.chain, frames)
    references = pooled_references(frames)
    run(bench, "warm", all_ways(bench, REGRESSION), files, references, turn=turn, begin=begin)


def dealt(frames: Sequence[pd.DataFrame], turn: int) -> list[pd.DataFrame]:
    """Deal the rows to batches of the same sizes anew; turn 0 keeps them."""
    if turn == 0:
        return list(frames)
    rows = pd.concat(frames, ignore_index=True)
    rows = rows.iloc[np.random.default_rng(turn).permutation(len(rows))]
    ends = np.cumsum([len(frame) for frame in frames])
    return [rows.iloc[end - len(frame) : end] for end, frame in zip(ends, frames, strict=True)]


def pooled_references(frames: Sequence[pd.DataFrame]) -> list[Reference]:
    """Return the exact posterior of the regression after each batch."""
    return [exact_regression(pd.concat(frames[: place + 1])) for place in range(len(frames))]


# -- growth -----------------------------------------------------------------------------------------

ROWS = 20
#: Marks, number of measured updates around each, number of full refits at each; and those of --quick.
MARKS, QUICK_MARKS = ((10, 100, 1000), 7, 3), ((10, 30), 3, 1)


@dataclass
class _Stage:
    """A chain that ends just before a mark."""

    mark: int
    ours: Lindley
    refit: Pymc
    first: int
    lowest: dict[str, float] = field(default_factory=dict)


def growth(bench: Bench) -> None:
    """One chain of small batches; updates around the links 10, 100 and 1,000 in turns, beside full refits.

    The chain is copied as it passes a mark, so that early and late updates are measured at the same time.
    """
    marks, around, refits = QUICK_MARKS if bench.quick else MARKS
    folder = bench.fresh("batches")
    frames = list(islice(simulated_regression(ROWS), marks[-1] + around))
    files = [write_batch(folder, REGRESSION.chain, i, frame) for i, frame in enumerate(frames, start=1)]
    stages = list(_grown(bench, marks, around, files))
    for step in range(around + 1):
        for stage in in_turns(stages, step):
            # The first update of a copy opens its ledger, and is not measured.
            if step <= refits:
                _at(bench, stage.refit, stage, stage.mark, files, frames, measured=step > 0)
            _at(bench, stage.ours, stage, stage.first + step, files, frames, measured=step > 0)


def _at(
    bench: Bench,
    contender: Contender,
    stage: _Stage,
    link: int,
    files: Sequence[Path],
    frames: Sequence[pd.DataFrame],
    *,
    measured: bool,
) -> None:
    """Make one link around a mark; its row has the number of the mark."""
    reference = exact_regression(pd.concat(frames[:link]))
    row = one("growth", contender, link, files[:link], reference, lowest=stage.lowest)
    if row is not None and measured:
        bench.emit(replace(row, link=stage.mark))


def _grown(bench: Bench, marks: Sequence[int], around: int, files: Sequence[Path]) -> Iterator[_Stage]:
    """Grow a chain; yields a copy of it before the links around each mark."""
    workspace = bench.workspace(REGRESSION.models)
    steps, made = core_steps(plots=False), 0
    for mark in marks:
        first = mark - (around + 1) // 2
        while made < first - 1:
            accepted(update(steps, workspace, REGRESSION.chain, str(files[made].absolute())))
            made += 1
            if made % 50 == 0:
                bench.notify(f"growth: {made} links")
        copied = bench.workspace(REGRESSION.models)
        shutil.copytree(workspace.root, copied.root, dirs_exist_ok=True)
        ours = Lindley(copied, REGRESSION.chain, REGRESSION.variables)
        registry = Registry(bench.fresh("rival"), REGRESSION.chain)
        yield _Stage(mark, ours, Pymc(registry, REGRESSION, pooled=True), first)


# -- the article's SIR ------------------------------------------------------------------------------


def sir_article(bench: Bench) -> None:
    """Two outbreaks, warm and cold, beside the quoted measurements of PyMC3."""
    files = bench.files(SIR, batches_of(SIR, MODELS, bench.reference / SIR_FILE))
    references = sir_references(json.loads((bench.reference / SIR_REFERENCE).read_text(encoding="utf-8")))
    for turn in range(2 if bench.quick else 4):
        warm_one = Lindley(bench.workspace(MODELS), SIR, SIR_VARIABLES)
        cold_one = cold.ColdLindley(bench.workspace(MODELS), SIR, SIR_VARIABLES)
        begin = 1 if turn else len(files) + 1
        run(bench, SIR, [warm_one], files, references, begin=begin)
        run(bench, SIR, [cold_one], files, references, process=COLD, begin=begin)
    for link, seconds, cpu, ess in SIR_QUOTED:
        bench.emit(
            Row(
                scenario=SIR,
                method=ARTICLE,
                link=link,
                seconds=seconds,
                cpu_seconds=cpu,
                ess_min=ess,
                process=QUOTED,
            )
        )


def sir_references(document: dict) -> list[Reference]:
    """Return the near-exact posteriors after the first outbreak and after both."""
    return [
        Reference(
            np.array([document[part]["mean"][name] for name in SIR_VARIABLES]),
            np.array([document[part]["sd"][name] for name in SIR_VARIABLES]),
        )
        for part in ("batch1", "pooled")
    ]


# -- fifty groups -----------------------------------------------------------------------------------


def hierarchical(bench: Bench) -> None:
    """A centred model of fifty groups, batch by batch, by all methods that update."""
    many, repeats = (3, 1) if bench.quick else (6, 3)
    for turn in range(-1, repeats):
        # Other groups each time, as in `dealt`; the first run only makes the process warm.
        frames = simulated_groups(2 if turn < 0 else many, seed=50 + turn)
        bench.notify(f"hierarchical: reference fits of all rows, {turn + 1} of {repeats}")
        references = [long_fit(pd.concat(frames[: place + 1])) for place in range(len(frames))]
        ways, files = all_ways(bench, GROUPS, pooled=False), bench.files(GROUPS.chain, frames)
        begin = len(files) + 1 if turn < 0 else 1
        run(bench, "hierarchical", ways, files, references, turn=max(turn, 0), begin=begin)


def long_fit(rows: pd.DataFrame) -> Reference:
    """Fit all rows of the fifty groups at once, with three times the draws."""
    with pm.Model():
        GROUPS.likelihood(GROUPS.priors(), GROUPS.data(rows))
        trace = pm.sample(3000, chains=4, cores=4, random_seed=0, progressbar=False)
    found = found_in(trace, GROUPS.variables)
    flat = found.draws.reshape(-1, found.draws.shape[-1])
    return Reference(found.mean, flat.std(axis=0, ddof=1), convergence(found.draws).ess_min)
