"""Pooled refits of the chain ``coins`` without sampling, and traces; see `tests.support.fakes`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import arviz as az
import numpy as np

from lindley.ledger.protocol import Ledger
from lindley.ledger.registration import Registered, register_link
from lindley.model.declaration import Declaration
from lindley.operations.import_trace import plan_import
from lindley.operations.log import log_plan
from lindley.operations.plan import fit_plan
from lindley.operations.rebase import plan_rebase
from tests.support import fakes
from tests.support.fakes import MemoryLedger


def rebase(ledger: MemoryLedger, declaration: Any, *, passed: bool = True) -> Registered:
    """Plan, fit, log and register a pooled refit."""
    return fakes.done(ledger, plan_rebase(ledger, declaration), passed=passed)


def trace(path: Path, *, seed: int = 3) -> Path:
    """Write a trace of theta that a chain ``coins`` can start from."""
    theta = np.random.default_rng(seed).beta(4, 6, (4, 500))
    az.from_dict({"posterior": {"theta": theta}}).to_netcdf(path, engine="h5netcdf")
    return path


def import_trace(ledger: Ledger, declaration: Declaration, path: Path) -> Registered:
    """Start a chain from a trace, as `lindley import` does."""
    plan = plan_import(ledger, declaration, path)
    return register_link(ledger, log_plan(ledger, plan, fit_plan(plan)))
