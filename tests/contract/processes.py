"""What other processes do to a ledger in the contract tests; imported by the processes themselves."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Imported on first use by MLflow; here, so that the processes need not each do it.
import mlflow.store.model_registry.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

from lindley.ledger.mlflow.store import MlflowLedger
from lindley.ledger.protocol import Run
from tests.support.forks import START_SECONDS, context


def at_once(target: Callable[..., None], arguments: list[tuple[Any, ...]]) -> list[Any]:
    """Run `target(*arguments, barrier, results)` in one process each, all at once; return what they put."""
    processes = context()
    barrier, results = processes.Barrier(len(arguments)), processes.Queue()
    workers = [processes.Process(target=target, args=(*each, barrier, results)) for each in arguments]
    for worker in workers:
        worker.start()
    found = [results.get(timeout=START_SECONDS) for _ in workers]
    for worker in workers:
        worker.join(START_SECONDS)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)
    return found


def open_and_claim(uri: str, root: Path, chain: str, genesis: bytes, barrier: Any, results: Any) -> None:
    """Open a ledger and claim a chain in the same moment as the others; put what holds, or the error."""
    barrier.wait(START_SECONDS)
    try:
        results.put(MlflowLedger(uri, root).claim(chain, genesis, "claimed"))
    except Exception as error:
        results.put(error)


def open_run_and_die(uri: str, root: Path, chain: str, pipe: Any) -> None:
    """Open a run, say which, and be killed in the middle of the work."""
    pipe.send(MlflowLedger(uri, root).open_run(chain, Run(name="killed")))
    time.sleep(START_SECONDS)


def killed_run(uri: str, root: Path, chain: str) -> str:
    """Return the id of a run whose process was killed with SIGKILL."""
    processes = context()
    mine, theirs = processes.Pipe()
    worker = processes.Process(target=open_run_and_die, args=(uri, root, chain, theirs))
    worker.start()
    assert mine.poll(START_SECONDS)
    run_id: str = mine.recv()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    worker.join(START_SECONDS)
    return run_id
