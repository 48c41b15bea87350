"""Fits without a sampler: posteriors of the chain ``coins`` on a grid, drawn from by their quantiles.

A fit takes milliseconds; everything after it is the real code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pymc as pm
from scipy import stats

from lindley.batch.batch import joined
from lindley.inference import groups, trace
from lindley.inference.assessment import Assessment
from lindley.inference.diagnostics.gate import Gate
from lindley.inference.diagnostics.monitor import Observation, moved, watched
from lindley.inference.info import Fit, Info, Provenance
from lindley.inference.modes.attempts import PRIOR, Attempt
from lindley.inference.sampling import FitSettings
from lindley.ledger.record import Kind
from lindley.model.coordinates import Block, Coordinates
from lindley.operations.plan import Outcome, Plan, completed
from lindley.prior.belief import Audited, Belief
from lindley.prior.matched import match

CHAINS, DRAWS = 4, 250
COORDINATES = Coordinates((Block(name="theta", shape=(), value_shape=(), transform="logodds"),))


def fit_plan(plan: Plan, *, passed: bool = True) -> Outcome | None:
    """Return what `lindley.operations.plan.fit_plan` would, from a posterior on a grid, not a sampler."""
    return fit(plan, passed=passed) if plan.fits else None


def _attempt(metrics: dict[str, float], *, passed: bool) -> Attempt:
    figures = {
        name: metrics[name] for name in ("r_hat_max", "ess_bulk_min", "ess_tail_min", "divergence_rate")
    }
    return Attempt("", 1, FitSettings(), PRIOR, figures, passed)


def _errors(matches: int, audited: Audited | None) -> dict[str, float]:
    """Return what a link states of its error, with so many matches behind it that could not be measured."""
    found = {"unmeasured": float(matches), **(audited.as_metrics() if audited else {})}
    if matches and audited:
        found["unmeasured_error"] = audited.expected(matches)
    if matches and not audited:
        return found
    return found | {"stated_error": audited.bound(matches, 0.05) if audited else 0.05}


def fit(plan: Plan, *, passed: bool = True) -> Outcome:
    """Return what `fit_plan` would for a plan that needs a fit."""
    rng = np.random.default_rng(plan.seed)
    u = _posterior_draws(plan, rng)
    matched = match(u.reshape(-1, 1), COORDINATES)
    prior, head = plan.start.prior, plan.start.head
    budget = (prior.budget if prior else 0.0) + 2 / 900
    scored = head.log_score if head else 0.0
    metrics = {
        "r_hat_max": 1.002 if passed else 1.31,
        "ess_bulk_min": 950.0,
        "ess_tail_min": 900.0,
        "divergences": 0.0,
        "divergence_rate": 0.0,
        "k_hat": 0.12,
        "budget": budget,
        "trusted": 1.0,
        "doubt": 0.0,
        "drift": 0.0,
        "monte_carlo_error": 0.05,
        "replayed": float(len(plan.batches) - 1),
        "log_score": (scored or 0.0) - 7.25 - plan.link,
    }
    if plan.kind == Kind.UPDATE:
        metrics["log_predictive"] = -7.25 - plan.link
    before = plan.start.before(len(plan.batches))
    watching: dict[str, Any] = {}
    if before is not None:
        watching = watched(before.monitor, Observation({"theta": 0.5}, {"theta": 0.25}, -0.4, 0.3, "coins"))
        metrics["moving"] = float(moved(watching) is not None)
    near = plan.start.near or head
    metrics |= _errors(prior.unmeasured if prior else 0, near.audited if near else None)
    tree = _trace(plan, u, rng)
    graph: Any = SimpleNamespace(
        free=(SimpleNamespace(name="theta", rv=pm.Beta.dist(2, 3)),), coordinates=COORDINATES
    )
    belief = Belief(matched=matched, budget=budget, log_score=metrics["log_score"], monitor=watching)
    reasons = () if passed else ("R-hat 1.3100 of theta, at most 1.01 allowed",)
    unsampled: Any = None
    found = Fit(
        belief=belief,
        sampled=unsampled,
        assessment=Assessment(Gate(passed=passed, reasons=reasons), metrics, {"theta": 0.01}),
        provenance=Provenance(
            sampler=FitSettings().as_dict()
            | FitSettings().as_first()
            | {"seed": str(plan.seed), "attempt": 1},
            attempts=(_attempt(metrics, passed=passed).as_dict(),),
            graph=hashlib.sha256(b"later" if prior else b"first").hexdigest(),
            started_from=prior.matched.digest if prior else None,
            pooled="rows" if len(plan.batches) > 1 else "",
        ),
        start=prior,
    )
    info = Info(
        fit=found,
        trace=tree,
        summary=trace.summary(tree, graph),
        likelihood={"y": "Binomial(<constant>, theta)"},
        genesis={"genesis_prior": {"theta": "Beta(2, 3)"}, "genesis_hyperprior": {}},
        seconds={"sample": 0.25},
    )
    return completed(plan, belief, info)


@dataclass
class Fits:
    """Stands for `lindley.operations.plan.fit_plan`: counts the fits, and fails them on request."""

    passed: bool = True
    error: Exception | None = None
    during: Callable[[], object] = lambda: None
    plans: list[Plan] = field(default_factory=list)

    def __call__(self, plan: Plan, *, progress: Callable[[int, int], None] | None = None) -> Outcome | None:
        self.plans.append(plan)
        if self.error is not None:
            raise self.error
        if progress is not None:
            progress(500, 1000)
            progress(1000, 1000)
        outcome = fit_plan(plan, passed=self.passed)
        self.during()
        return outcome


def _posterior_draws(plan: Plan, rng: np.random.Generator) -> np.ndarray:
    """Draw the log odds [chain, draw, coordinate] from their posterior by inverting its distribution."""
    grid = np.linspace(-12, 12, 6001)
    if plan.start.prior is None:
        log_density = stats.beta.logpdf(_expit(grid), 2, 3) - grid - 2 * np.log1p(np.exp(-grid))
    else:
        low, mid, high = _from_prior(plan, np.array([-1.0, 0.0, 1.0]))
        log_density = stats.norm.logpdf(grid, mid, (high - low) / 2)
    frame = joined(plan.batches).frame()
    k, n = int(frame["k"].sum()), int(frame["n"].sum())
    log_density += k * grid - n * np.log1p(np.exp(grid))
    mass = np.exp(log_density - log_density.max())
    # Half of a point's mass lies below it; without that all draws are low by half a step, link after link.
    cumulative = np.cumsum(mass) - mass / 2
    total = mass.sum()
    uniform = rng.uniform(size=(CHAINS, DRAWS, 1))
    return np.interp(uniform, cumulative / total, grid)


def _trace(plan: Plan, u: np.ndarray, rng: np.random.Generator) -> Any:
    """Assemble a trace with the groups of a link whose model predicts nothing."""
    graph: Any = SimpleNamespace(
        coordinates=COORDINATES, model=SimpleNamespace(named_vars_to_dims={}, coords={})
    )
    equal = np.full(CHAINS * DRAWS, 1 / (CHAINS * DRAWS))
    tree = groups.assemble(graph, COORDINATES, {"theta": _expit(u[..., 0])}, u, equal)
    z = rng.standard_normal(500)
    before = rng.beta(2, 3, 500) if plan.start.prior is None else _expit(_from_prior(plan, z))
    tree["prior"] = groups.assemble(graph, COORDINATES, {"theta": before[None]}, u[:1, :500])["posterior"]
    return tree


def _from_prior(plan: Plan, z: np.ndarray) -> np.ndarray:
    """Take whitened points [draw] of the matched prior to the log odds."""
    assert plan.start.prior is not None
    return plan.start.prior.matched.map.forward(z[:, None])[:, 0]


def _expit(u: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-u))
