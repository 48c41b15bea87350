"""The same warm update with and without Prefect, the MLflow server and a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.speed import cold
from benchmarks.speed.contenders import Contender, Lindley, accepted, no_progress
from benchmarks.speed.measure import LINDLEY
from benchmarks.speed.streams import Bench, batches_of, run
from benchmarks.speed.targets import MODELS, REGRESSION, exact_regression
from flows import environment
from lindley.workspace import Workspace

#: Links from genesis and from a belief that make every method warm.
UNMEASURED = 2
START_SECONDS, STOP_SECONDS = 300.0, 60.0
PREFECT, SERVER, WORKER = f"{LINDLEY}+prefect", f"{LINDLEY}+mlflow_server", f"{LINDLEY}+worker"
BOTH = f"{PREFECT}+mlflow_server"


def orchestration(bench: Bench) -> None:
    """Links of the regression stream by all methods in turns, each with a chain of its own."""
    frames = batches_of(REGRESSION.chain, MODELS, bench.reference / cold.REGRESSION_FILE)
    frames = frames[: UNMEASURED + (2 if bench.quick else 6)]
    references = [exact_regression(pd.concat(frames[: i + 1])) for i in range(len(frames))]
    files = bench.files(REGRESSION.chain, frames)
    methods = (LINDLEY, PREFECT, SERVER, BOTH, WORKER)
    models = named_copies(bench.fresh("models"), {method: chain_of(method) for method in methods})
    home = bench.workspace(models)
    with everything_up(bench, home):
        # Before Prefect is imported, because the import reads the addresses.
        at_server = environment.prepare(home, quiet=True)
        at_server = replace(home, tracking_uri=at_server.tracking_uri)
        ways = [
            _way(method, bench.workspace(models) if method in (LINDLEY, PREFECT) else at_server)
            for method in methods
        ]
        run(bench, "orchestration", ways, files, references, begin=UNMEASURED + 1)


def chain_of(method: str) -> str:
    """Return the name of a method's chain."""
    return method.replace("+", "_")


def named_copies(folder: Path, names: dict[str, str]) -> Path:
    """Write the model file of the regression once for every chain; returns the folder."""
    source = (MODELS / f"{REGRESSION.chain}.py").read_text(encoding="utf-8")
    declared = f'name="{REGRESSION.chain}"'
    if source.count(declared) != 1:
        raise ValueError(f"the model file of {REGRESSION.chain} does not hold {declared} once")
    for name in names.values():
        (folder / f"{name}.py").write_text(source.replace(declared, f'name="{name}"'), encoding="utf-8")
    return folder


def _way(method: str, workspace: Workspace) -> Contender:
    kind = {PREFECT: ThroughPrefect, BOTH: ThroughPrefect, WORKER: ThroughWorker}.get(method, Lindley)
    return kind(workspace, chain_of(method), REGRESSION.variables, method)


@dataclass
class ThroughPrefect(Lindley):
    """A flow run in this process, known to the Prefect server."""

    def update(self, link: int, files: Sequence[Path]) -> None:
        from flows.inprocess import run_flow  # it imports Prefect, whose environment is not known earlier

        with environment_of(self.workspace):
            file = str(files[-1].absolute())
            accepted(run_flow(self.workspace, no_progress, "update.update", self.chain, file))


@dataclass
class ThroughWorker(Lindley):
    """A run of the deployment in the worker that ``lindley up`` starts."""

    def update(self, link: int, files: Sequence[Path]) -> None:
        from prefect.deployments import run_deployment  # as above

        parameters = {"chain": self.chain, "file": str(files[-1])}
        done: Any = run_deployment("update/update", parameters=parameters, timeout=900, poll_interval=0.1)
        if done.state is None or not done.state.is_completed():
            raise RuntimeError(f"the worker's run of {files[-1].name} did not complete: {done.state}")


@contextmanager
def environment_of(workspace: Workspace) -> Iterator[None]:
    """Set the environment variables of a workspace, as flows expect them, within a block."""
    ours = {
        "LINDLEY_HOME": str(workspace.root),
        "LINDLEY_MODELS": str(workspace.models),
        "LINDLEY_DATA": str(workspace.landing.parent),
        "MLFLOW_TRACKING_URI": workspace.tracking_uri,
    }
    before = {name: os.environ.get(name) for name in ours}
    os.environ.update(ours)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextmanager
def everything_up(bench: Bench, workspace: Workspace) -> Iterator[None]:
    """Run ``lindley up`` on loopback, on free ports, within a block.

    Raises
    ------
    RuntimeError
        If it does not start.
    """
    own = {
        "LINDLEY_HOME": str(workspace.root),
        "LINDLEY_MODELS": str(workspace.models),
        "LINDLEY_DATA": str(workspace.landing.parent),
        # The runs of a worker find the modules where this process found them.
        "PYTHONPATH": os.pathsep.join(filter(None, [str(cold.ROOT), os.environ.get("PYTHONPATH", "")])),
    }
    inherited = {name: value for name, value in os.environ.items() if name not in cold.ELSEWHERE}
    command = [
        "flows.cli",
        "up",
        "--mlflow-port",
        "0",
        "--prefect-port",
        "0",
        "--pages-port",
        "0",
        "--no-watch",
        "--json",
    ]
    bench.notify("orchestration: starting the servers and the worker")
    log = workspace.root / "up.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            env=inherited | own,
            cwd=workspace.root,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _await(process, log)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await(process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until ``lindley up`` prints its addresses, its last output."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        if _printed(log.read_text(encoding="utf-8", errors="replace")):
            return
        time.sleep(0.2)
    raise RuntimeError(f"`lindley up` did not start: {log.read_text(errors='replace')[-2000:]}")


def _printed(text: str) -> bool:
    """Whether the output of ``lindley up --json`` ends with its document."""
    begun = text.find("\n{") + 1 if not text.startswith("{") else 0
    try:
        return "prefect" in json.loads(text[begun:])
    except ValueError:
        return False
