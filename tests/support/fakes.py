"""A ledger in memory that can be tampered with, and links that are genuine but never sampled.

The links are those of the chain ``coins``: successes of repeated trials. Their posterior is computed on a
grid and drawn from by its quantiles, so that a link takes milliseconds; everything after the fit is the
real code (`log_plan`, `register_link`), so that records and artifacts verify.
"""

from __future__ import annotations

import copy
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pymc as pm
from scipy import stats

from lindley.batch.batch import Batch, batch_from_frame, joined
from lindley.errors import LedgerCorrupt, LedgerUnavailable
from lindley.inference import groups, trace
from lindley.inference.assessment import Assessment
from lindley.inference.diagnostics.gate import Gate
from lindley.inference.diagnostics.monitor import Observation, moved, watched
from lindley.inference.info import Fit, Info, Provenance
from lindley.inference.modes.attempts import PRIOR, Attempt
from lindley.inference.sampling import FitSettings
from lindley.ledger.chain import Version, read_version
from lindley.ledger.protocol import Home, Ledger, Run, RunState
from lindley.ledger.record import REGISTERED, Kind, digest
from lindley.ledger.registration import Registered, register_link
from lindley.ledger.writing import LoggedLink
from lindley.model.coordinates import Block, Coordinates
from lindley.model.declaration import Declaration, load_file
from lindley.operations.log import log_plan
from lindley.operations.plan import Outcome, Plan, completed
from lindley.operations.update import plan_update
from lindley.prior.belief import Audited, Belief
from lindley.prior.matched import match

CHAINS, DRAWS = 4, 250
COORDINATES = Coordinates((Block(name="theta", shape=(), value_shape=(), transform="logodds"),))

MODEL = '''"""Successes of repeated trials."""

import pyarrow as pa
import pymc as pm

from lindley import Declaration, Policy


def build(batch):
    with pm.Model() as model:
        theta = pm.Beta("theta", 2, 3)
        pm.Binomial("y", batch["n"].to_numpy(), theta, observed=batch["k"].to_numpy())
    return model


declaration = Declaration(
    name="coins",
    build=build,
    schema=pa.schema([pa.field(name, pa.int64(), nullable=False) for name in ("id", "k", "n")]),
    row_key=("id",),
    observed=("k",),
    carried=("theta",),
    description="Success probability of repeated trials.",
    # A match for every batch: chains of links that start from one another.
    policy=Policy(refit_rows=1, join_quarantined=False),
)
'''


# -- genuine links without sampling -------------------------------------------------------------------


def declare(folder: Path, name: str = "coins", code: str = "") -> Declaration:
    """Write a model file and load its declaration; `code` is appended to it."""
    path = folder / f"{name}.py"
    path.write_text(MODEL.replace('"coins"', repr(name)) + code, encoding="utf-8")
    return load_file(path)


def coins(declaration: Declaration, start: int, rows: int = 4, *, k: int = 3, origin: str = "") -> Batch:
    """Return a batch of `rows` rows with ids from `start`: k successes in 10 trials each."""
    frame = pd.DataFrame({"id": np.arange(start, start + rows), "k": k, "n": 10})
    return batch_from_frame(frame, declaration, origin or f"coins-{start:03d}.csv")


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


def logged(
    ledger: Ledger, declaration: Declaration, batch: Batch, *, passed: bool = True, accept: bool = False
) -> LoggedLink:
    """Plan, fit and log a batch; the link is not registered yet."""
    plan = plan_update(ledger, declaration, batch, accept_model_change=accept)
    assert plan.noop is None, plan.noop
    return log_plan(ledger, plan, fit(plan, passed=passed))


def append(
    ledger: Ledger, declaration: Declaration, batch: Batch, *, passed: bool = True, accept: bool = False
) -> Registered:
    """Plan, fit, log and register a batch."""
    return register_link(ledger, logged(ledger, declaration, batch, passed=passed, accept=accept))


def done(ledger: Ledger, plan: Plan, *, passed: bool = True) -> Registered:
    """Fit, log and register a plan of any kind."""
    assert plan.noop is None, plan.noop
    return register_link(ledger, log_plan(ledger, plan, fit_plan(plan, passed=passed)))


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


# -- the ledger ---------------------------------------------------------------------------------------


@dataclass
class StoredRun:
    """A run of `MemoryLedger`."""

    chain: str
    run: Run
    status: str = "running"
    alive: bool = True
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    deleted: bool = False


@dataclass
class StoredVersion:
    """A registered version of `MemoryLedger`."""

    run_id: str
    tags: dict[str, str]
    description: str


@dataclass
class StoredChain:
    """A registered model of `MemoryLedger`; `last` is the newest version number ever given."""

    genesis: str
    genesis_run: str
    description: str
    versions: dict[int, StoredVersion] = field(default_factory=dict)
    last: int = 0
    head: int | None = None
    challenger: int | None = None


class MemoryLedger:
    """A `Ledger` in memory. The stores are open to tests: they tamper with `models` and `runs`."""

    def __init__(self) -> None:
        self.models: dict[str, StoredChain] = {}
        self.runs: dict[str, StoredRun] = {}
        self.homes: dict[str, Home] = {}
        self._lock = threading.Lock()

    # -- for tests --------------------------------------------------------------------------------------

    def clone(self) -> MemoryLedger:
        """Return a copy that can be tampered with alone."""
        other = MemoryLedger()
        other.models, other.runs = copy.deepcopy(self.models), copy.deepcopy(self.runs)
        other.homes = dict(self.homes)
        return other

    def run_of(self, chain: str, number: int) -> StoredRun:
        """Return the run behind a version."""
        return self.runs[self.models[chain].versions[number].run_id]

    def flip(self, chain: str, number: int, path: str, position: int = -1) -> None:
        """Change one byte of an artifact; by default the one in the middle."""
        files = self.run_of(chain, number).files
        data = bytearray(files[path])
        data[len(data) // 2 if position < 0 else position] ^= 0x01
        files[path] = bytes(data)

    def kill(self, run_id: str) -> None:
        """Let the process that writes a run be dead."""
        self.runs[run_id].alive = False

    # -- the protocol -----------------------------------------------------------------------------------

    def chains(self) -> list[str]:
        return sorted(self.models)

    def home(self, chain: str) -> Home | None:
        return self.homes.get(chain)

    def genesis(self, chain: str) -> bytes | None:
        if chain not in self.models:
            return None
        stored = self.models[chain]
        data = self.runs[stored.genesis_run].files.get("genesis.json", b"")
        if digest(data) != stored.genesis:
            raise LedgerCorrupt("The genesis record changed", expected=f"sha256 {stored.genesis}")
        return data

    def claim(self, chain: str, genesis: bytes, description: str) -> bytes:
        run_id = self.open_run(chain, Run(name="genesis", tags={"lindley.kind": "genesis"}))
        self.runs[run_id].files["genesis.json"] = genesis
        with self._lock:
            won = chain not in self.models
            if won:
                self.models[chain] = StoredChain(digest(genesis), run_id, description)
        self.close_run(run_id, "finished", "" if won else "superseded")
        held = self.genesis(chain)
        assert held is not None
        return held

    def versions(self, chain: str, *, fresh: bool = True) -> list[Version]:
        stored = self.models[chain].versions if chain in self.models else {}
        return [
            read_version(number, item.run_id, "2020-01-22T06:00:00+00:00", item.tags)
            for number, item in sorted(stored.items())
        ]

    def loaded_from(self, chain: str, number: int) -> str:
        return ""

    def package(
        self, folder: Path, declaration: Declaration, draws: Path, example: pd.DataFrame | None
    ) -> None:
        (folder / "belief").mkdir()
        (folder / "belief" / "MLmodel").write_text(f"chain: {declaration.name}\n", encoding="utf-8")
        (folder / "belief" / "draws.nc").write_bytes(draws.read_bytes())

    def open_run(self, chain: str, run: Run) -> str:
        with self._lock:
            run_id = f"{len(self.runs) + 1:032x}"
            self.homes.setdefault(chain, Home(f"The place {chain}", restore="by hand"))
            self.runs[run_id] = StoredRun(chain, run, tags=dict(run.tags), metrics=dict(run.metrics))
        return run_id

    def upload(self, run_id: str, folder: Path) -> None:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.runs[run_id].files[path.relative_to(folder).as_posix()] = path.read_bytes()

    def download(self, run_id: str, folder: Path, path: str = "") -> Path:
        files = self.runs[run_id].files if run_id in self.runs else {}
        chosen = {name: data for name, data in files.items() if not path or f"{name}/".startswith(f"{path}/")}
        if not chosen:
            raise LedgerCorrupt(f"The artifact {path} of run {run_id} is missing")
        for name, data in chosen.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return folder / path

    def artifacts(self, run_id: str) -> dict[str, int]:
        return {name: len(data) for name, data in self.runs[run_id].files.items()}

    def close_run(
        self, run_id: str, status: str, state: str = "", metrics: Mapping[str, float] | None = None
    ) -> None:
        run = self.runs[run_id]
        run.status = status
        run.metrics |= metrics or {}
        if state:
            run.tags["lindley.state"] = state

    def log_metrics(self, run_id: str, metrics: Mapping[str, float]) -> None:
        self.runs[run_id].metrics |= metrics

    def run_state(self, run_id: str) -> RunState | None:
        run = self.runs.get(run_id)
        return RunState(run.status, dict(run.tags), dict(run.metrics), run.deleted) if run else None

    def run_states(self, chain: str) -> dict[str, RunState]:
        return {
            run_id: RunState(run.status, dict(run.tags), dict(run.metrics))
            for run_id, run in self.runs.items()
            if run.chain == chain
        }

    def register(self, chain: str, run_id: str, tags: Mapping[str, str], description: str) -> int:
        if chain not in self.models:
            raise LedgerUnavailable(f"There is no registered model {chain}")
        with self._lock:
            stored = self.models[chain]
            stored.last += 1
            stored.versions[stored.last] = StoredVersion(run_id, dict(tags), description)
            return stored.last

    def head_hint(self, chain: str) -> int | None:
        return self.models[chain].head

    def set_head_hint(self, chain: str, number: int) -> None:
        self.models[chain].head = number

    def challenger(self, chain: str) -> int | None:
        return self.models[chain].challenger

    def set_challenger(self, chain: str, number: int | None) -> None:
        self.models[chain].challenger = number

    def dead_runs(self, chain: str) -> list[str]:
        return [i for i, r in self.runs.items() if r.chain == chain and r.status == "running" and not r.alive]

    def registered_runs(self, chain: str) -> list[str]:
        states = set(REGISTERED)
        return [i for i, r in self.runs.items() if r.chain == chain and r.tags.get("lindley.state") in states]

    def urls(self, chain: str, run_id: str, number: int | None) -> dict[str, str]:
        return {}
