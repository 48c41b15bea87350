"""The same members by the usual ways: one model compiled once and sampled in a loop, and `pm.sample` a key.

They stop at draws: they give no matched prior, no assessment, no summary.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import nutpie
import pymc as pm
from arviz_stats.base import array_stats

from benchmarks.panel.measured import Clock, Measured, coverage_of, peak_mb
from benchmarks.panel.members import MEANS, SPREAD, TERMS, Member, build, members

#: Chains, warm-up and draws per chain, as `fit_members` asks NUTS for; seed of all.
CHAINS, TUNE, DRAWS = 4, 500, 500

type Draw = Callable[[Member], np.ndarray]


def run(method: str, count: int) -> Measured:
    """Sample members from the model's priors by one of `METHODS`."""
    clock = Clock()
    draw = METHODS[method]()
    every = list(members(0, count))
    draw(every[0])
    _, compiled = clock.read()
    clock, ess, inside = Clock(), [], []
    for one in every:
        b = draw(one)  # [chain, draw, term]
        ess.append(float(array_stats.ess(np.moveaxis(b, -1, 0), method="bulk").min()))
        low, high = np.quantile(b.reshape(-1, len(TERMS)), [0.05, 0.95], axis=0)
        inside.append((low <= one.truth) & (one.truth <= high))
    seconds, cpu = clock.read()
    coverage, error = coverage_of(np.array(inside))
    return Measured(
        scenario="engine",
        method=method,
        link=1,
        members=count,
        processes=1,
        seconds=seconds,
        cpu_seconds=cpu,
        compile_seconds=compiled,
        peak_mb=peak_mb(),
        nuts=count,
        ess=float(np.mean(ess)),
        match_ess=float(np.median(ess)),
        coverage=coverage,
        coverage_se=error,
        note="draws only",
    )


def _design(member: Member) -> tuple[np.ndarray, np.ndarray]:
    frame = member.rows(0)
    x = np.column_stack([np.ones(len(frame)), frame[list(TERMS[1:])].to_numpy()])
    return x, frame["y"].to_numpy()


def _nutpie() -> Draw:
    """Return a function of nutpie's model, compiled once, whose data are set anew."""
    x, y = _design(next(members(0, 1)))
    with pm.Model(coords={"term": list(TERMS)}) as model:
        b = pm.Normal("b", MEANS, SPREAD, dims="term")
        pm.Poisson("y", pm.math.exp(pm.Data("x", x) @ b), observed=pm.Data("outcomes", y))
    compiled = nutpie.compile_pymc_model(model)

    def draw(member: Member) -> np.ndarray:
        x, y = _design(member)
        trace = nutpie.sample(
            compiled.with_data(x=x, outcomes=y),
            chains=CHAINS,
            tune=TUNE,
            draws=DRAWS,
            seed=member.number,
            cores=1,
            progress_bar=False,
        )
        return _b(trace)

    return draw


def _pm_sample() -> Draw:
    """Return a function that builds the model of a key and calls `pm.sample`, as for a single data set."""
    logging.getLogger("pymc").setLevel(logging.ERROR)

    def draw(member: Member) -> np.ndarray:
        with build(member.rows(0)):
            trace = pm.sample(
                DRAWS,
                tune=TUNE,
                chains=CHAINS,
                cores=1,
                random_seed=member.number,
                progressbar=False,
                compute_convergence_checks=False,
            )
        return _b(trace)

    return draw


def _b(trace: Any) -> np.ndarray:
    return np.asarray(trace["posterior"]["b"].values)


METHODS: dict[str, Callable[[], Draw]] = {
    "nutpie, compiled once": _nutpie,
    "pm.sample a key": _pm_sample,
}
