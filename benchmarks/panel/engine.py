"""Members through `fit_members`, without files or a ledger: a link from the model's priors, then updates."""

from __future__ import annotations

import itertools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from benchmarks.panel.measured import Clock, Measured, coverage_of, peak_mb
from benchmarks.panel.members import DECLARATION, Member, members
from lindley.batch.batch import batch_from_frame
from lindley.inference.approximation.attempt import AUTO
from lindley.inference.members.fitting import fit_members
from lindley.inference.members.result import APPROXIMATION, MemberFit
from lindley.inference.members.task import MemberOptions, MemberTask
from lindley.model.declaration import Declaration

SCENARIO = "engine"
#: Interval of 90% of a summary.
_LOW, _HIGH = "q05", "q95"


@dataclass
class Shard:
    """What one process measured at one link."""

    seconds: float = 0.0
    cpu: float = 0.0
    compiled: float = 0.0
    peak: float = 0.0
    samplers: list[str] = field(default_factory=list)
    passed: list[bool] = field(default_factory=list)
    ess: list[float] = field(default_factory=list)
    match_ess: list[float] = field(default_factory=list)
    inside: list[np.ndarray] = field(default_factory=list)


def run(count: int, links: int, processes: int, sampler: str) -> list[Measured]:
    """Fit all members at each link in so many processes; returns a row for each link."""
    cuts = np.linspace(0, count, processes + 1).astype(int)
    # Fresh processes: their memory is their own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        futures = [
            pool.submit(shard, int(first), int(stop), links, sampler)
            for first, stop in itertools.pairwise(cuts)
        ]
        shards = [future.result() for future in futures]
    return [_joined([one[link] for one in shards], link + 1, count, sampler) for link in range(links)]


def shard(first: int, stop: int, links: int, sampler: str) -> list[Shard]:
    """Fit some members at every link."""
    every = list(members(first, stop))
    options = MemberOptions(carried=("b",))
    declaration = declared(sampler)
    fits: list[MemberFit | None] = [None] * len(every)
    found = []
    for link in range(links):
        measured, tasks = Shard(), [_task(one, link, fit) for one, fit in zip(every, fits, strict=True)]
        clock = Clock()
        list(fit_members(declaration, tasks[:1], options))  # compiled once a process and kind of link
        measured.compiled = clock.read()[1]
        clock = Clock()
        fits = list(fit_members(declaration, tasks, options))
        measured.seconds, measured.cpu = clock.read()
        for one, fit in zip(every, fits, strict=True):
            _add(measured, one, fit)
        measured.peak = peak_mb()
        found.append(measured)
    return found


def declared(sampler: str) -> Declaration:
    """Return the declaration of the members with ``auto`` or ``nuts`` as sampler."""
    chosen = AUTO if sampler == AUTO else "nuts"
    return replace(DECLARATION, policy=replace(DECLARATION.policy, sampler=chosen))


def _task(member: Member, link: int, before: MemberFit | None) -> MemberTask:
    batch = batch_from_frame(member.rows(link), DECLARATION)
    prior = before.belief if before is not None else None
    return MemberTask(key=(member.number,), batch=batch, seed=10_000 * link + member.number, prior=prior)


def _add(measured: Shard, member: Member, fit: MemberFit) -> None:
    measured.samplers.append(fit.sampler)
    measured.passed.append(fit.passed)
    if fit.belief is None:
        return
    measured.ess.append(fit.metrics["ess_bulk_min"])
    measured.match_ess.append(fit.metrics["match_ess"])
    rows = list(fit.summary.values())
    low, high = (np.array([row[name] for row in rows]) for name in (_LOW, _HIGH))
    measured.inside.append((low <= member.truth) & (member.truth <= high))


def _joined(shards: list[Shard], link: int, count: int, sampler: str) -> Measured:
    samplers = [one for part in shards for one in part.samplers]
    taken = samplers.count(APPROXIMATION)
    coverage, error = coverage_of(np.array([row for part in shards for row in part.inside]))
    return Measured(
        scenario=SCENARIO,
        method=f"fit_members, {sampler}",
        link=link,
        members=count,
        processes=len(shards),
        seconds=max(part.seconds for part in shards),
        cpu_seconds=sum(part.cpu for part in shards),
        compile_seconds=sum(part.compiled for part in shards),
        peak_mb=max(part.peak for part in shards),
        approximations=taken,
        nuts=len(samplers) - taken,
        failed=sum(not passed for part in shards for passed in part.passed),
        ess=float(np.mean([ess for part in shards for ess in part.ess])),
        match_ess=float(np.median([ess for part in shards for ess in part.match_ess])),
        coverage=coverage,
        coverage_se=error,
    )
