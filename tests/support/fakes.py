"""A ledger in memory that can be tampered with, and links that are genuine but never sampled.

The links are those of the chain ``coins``: successes of repeated trials. Their posterior is computed on a
grid and drawn from by its quantiles, so that a link takes milliseconds; everything after the fit is the
real code (`log_plan`, `register_link`), so that records and artifacts verify.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd

from lindley.batch.batch import Batch, batch_from_frame
from lindley.errors import LedgerCorrupt, LedgerUnavailable
from lindley.ledger.chain import Version, read_version
from lindley.ledger.protocol import Home, Ledger, Run, RunState
from lindley.ledger.record import REGISTERED, digest
from lindley.ledger.registration import Registered, register_link
from lindley.ledger.writing import LoggedLink
from lindley.model.declaration import Declaration, load_file
from lindley.operations.log import log_plan
from lindley.operations.plan import Plan
from lindley.operations.update import plan_update
from tests.support.fits import fit, fit_plan

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
    params: dict[str, str] = field(default_factory=dict)
    note: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    deleted: bool = False
    models: dict[str, str] = field(default_factory=dict)

    def shown(self) -> tuple[object, ...]:
        """Return what people see of it beside its files."""
        return self.tags, self.metrics, self.params, self.note, self.models


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
        at = "2020-01-22T06:00:00+00:00"
        return [
            replace(read_version(number, item.run_id, at, item.tags), description=item.description)
            for number, item in sorted(stored.items())
        ]

    def loaded_from(self, chain: str, number: int) -> str:
        return ""

    def package(
        self, folder: Path, declaration: Declaration, draws: Path | None, example: pd.DataFrame | None
    ) -> None:
        (folder / "belief").mkdir()
        (folder / "belief" / "MLmodel").write_text(f"chain: {declaration.name}\n", encoding="utf-8")
        if draws is not None:
            (folder / "belief" / "draws.nc").write_bytes(draws.read_bytes())

    def open_run(self, chain: str, run: Run) -> str:
        with self._lock:
            run_id = f"{len(self.runs) + 1:032x}"
            self.homes.setdefault(chain, Home(f"The place {chain}", restore="by hand"))
            held = {"tags": dict(run.tags), "params": dict(run.params)}
            self.runs[run_id] = StoredRun(chain, run, metrics=dict(run.metrics), note=run.note, **held)
        return run_id

    def kept(
        self, params: Mapping[str, str], metrics: Mapping[str, float]
    ) -> tuple[dict[str, str], dict[str, float]]:
        return dict(params), dict(metrics)

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
        if run is None:
            return None
        held = dict(run.tags), dict(run.metrics), run.deleted, dict(run.params), run.note
        return RunState(run.status, *held)

    def shown_records(self, run_id: str) -> dict[str, str]:
        return dict(self.runs[run_id].models)

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
