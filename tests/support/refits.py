"""Pooled refits of the chain ``coins`` without sampling; see `tests.support.fakes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import arviz as az
import numpy as np

from lindley.ledger.writing import LoggedLink, Registered, RunContext, register_link
from lindley.operations.plan import Outcome
from lindley.operations.rebase import RebasePlan, audit_metrics, audit_table, log_rebase, plan_rebase
from lindley.target.prepare import joined
from tests.support import fakes
from tests.support.fakes import MemoryLedger


def fit(plan: RebasePlan, *, passed: bool = True) -> Outcome:
    """Return what `lindley.operations.rebase.fit_rebase` would, from a posterior on a grid."""
    stand_in: Any = SimpleNamespace(
        prior=plan.prior,
        batch=joined(plan.batches),
        seed=plan.seed,
        before=None,
        link=plan.head_link.number + 1,
    )
    found = fakes.fit(stand_in, passed=passed)
    table = audit_table(plan.summary, found.info.summary)
    info = fakes.pooled(found, len(plan.batches), audit_metrics(table))
    return Outcome(belief=found.belief, info=info, audit=table)


def logged(ledger: MemoryLedger, plan: RebasePlan, *, passed: bool = True) -> LoggedLink:
    """Fit and log a plan; the link is not registered yet."""
    return log_rebase(ledger, plan, fit(plan, passed=passed), context=RunContext())


def rebase(ledger: MemoryLedger, declaration: Any, *, passed: bool = True) -> Registered:
    """Plan, fit, log and register a pooled refit."""
    return register_link(ledger, logged(ledger, plan_rebase(ledger, declaration), passed=passed))


def trace(path: Path, *, seed: int = 3) -> Path:
    """Write a trace of theta that a chain ``coins`` can start from."""
    theta = np.random.default_rng(seed).beta(4, 6, (4, 500))
    az.from_dict({"posterior": {"theta": theta}}).to_netcdf(path, engine="h5netcdf")
    return path


@dataclass
class Refits:
    """Stands for `fit_rebase`: counts the fits, and fails them on request."""

    passed: bool = True
    error: Exception | None = None
    during: Callable[[], object] = lambda: None
    plans: list[RebasePlan] = field(default_factory=list)

    def __call__(self, plan: RebasePlan, *, progress: Callable[[int, int], None] | None = None) -> Outcome:
        self.plans.append(plan)
        if self.error is not None:
            raise self.error
        if progress is not None:
            progress(500, 1000)
            progress(1000, 1000)
        outcome = fit(plan, passed=self.passed)
        self.during()
        return outcome
