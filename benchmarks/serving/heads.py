"""Requests while the head moves again and again: ``python -m benchmarks.serving.heads``.

`lindley serve` runs as a process of its own on an MLflow ledger. Genuine links (exact beliefs, no sampler)
are registered one after the other while clients ask. Afterwards every link predicts for every body by itself,
and each answer is compared with what its link gave.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.serving import page
from benchmarks.serving.load import Load, ask
from lindley.ledger.history import find_link
from lindley.ledger.mlflow.store import MlflowLedger
from tests.support import fakes

#: Seconds until a registered link has to answer every request.
LIMIT = 2.0
CHAIN = "coins"


@dataclass
class Seen:
    """What the answers said: the link and when each was asked for, and which predictions links gave."""

    asked: list[tuple[float, int]] = field(default_factory=list)
    answers: dict[tuple[int, int, str], set[str]] = field(default_factory=dict)

    def add(self, body: int, answer: Any, start: float) -> None:
        """Note one answer."""
        named = answer["lindley"]
        self.asked.append((start, named["link"]))
        key = (named["link"], body, named["record"])
        self.answers.setdefault(key, set()).add(_digest(answer["predictions"]))


@dataclass(frozen=True)
class Result:
    """What was measured: one line of the page."""

    moves: int
    requests: int
    clients: int
    failed: list[str]
    mixed: int
    slowest: float
    median: float
    p50: float
    p99: float
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether no request failed, no answer mixed links and each head answered in time."""
        return not self.failed and not self.mixed and self.slowest <= LIMIT


def run(folder: Path, *, moves: int, requests: int, clients: int) -> Result:
    """Move the head of a chain so often while clients send so many requests."""
    declaration = fakes.declare(folder)
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    ledger = MlflowLedger(uri, folder)
    fakes.append(ledger, declaration, fakes.coins(declaration, 0))
    bodies = _bodies()
    port = _free_port()
    server = _server(folder, uri, port)
    seen, registered = Seen(), {}
    try:
        _wait(port, server)
        stop = threading.Event()
        made: list[Load] = []
        asking = threading.Thread(
            target=lambda: made.append(
                ask(port, bodies, clients=clients, requests=requests, check=seen.add, stop=stop)
            )
        )
        start = time.perf_counter()
        asking.start()
        for move in range(1, moves + 1):
            while asking.is_alive() and len(seen.asked) < (move - 0.5) * requests / (moves + 1):
                time.sleep(0.01)
            registered[move + 1] = _move(ledger, declaration, move)
        asking.join()
        took = time.perf_counter() - start
        standing = _standing(port, moves + 1)
    finally:
        server.terminate()
        server.wait(60)
    load = made[0]
    if standing != moves + 1:
        load.failed.append(f"at the end link {standing} answers")
    delays = _delays(seen.asked, registered)
    return Result(
        moves=moves,
        requests=len(seen.asked),
        clients=clients,
        failed=load.failed,
        mixed=_mixed(ledger, seen, bodies),
        slowest=max(delays),
        median=float(np.median(delays)),
        p50=load.quantile(0.5),
        p99=load.quantile(0.99),
        seconds=took,
    )


def _standing(port: int, wanted: int) -> int:
    """Return the link that answers once it is the wanted one, or the time for that is over."""
    end = time.perf_counter() + LIMIT
    while True:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=60) as answer:
            found = int(json.load(answer)["chains"][CHAIN]["link"])
        if found == wanted or time.perf_counter() > end:
            return found
        time.sleep(0.05)


def _move(ledger: Any, declaration: Any, move: int) -> float:
    """Register one more link; return when its version was there."""
    times = []
    register: Callable[..., int] = ledger.register

    def timed(*given: Any) -> int:
        number = register(*given)
        times.append(time.perf_counter())
        return number

    ledger.register = timed
    try:
        fakes.append(ledger, declaration, fakes.coins(declaration, 10 * move, k=move % 10))
    finally:
        ledger.register = register
    return times[0]


def _delays(asked: list[tuple[float, int]], registered: dict[int, float]) -> list[float]:
    """Return for each link how long after its registration a request was still sent that another answered."""
    found = []
    for link, since in registered.items():
        late = [start - since for start, answered in asked if answered < link and start > since]
        found.append(max(late, default=0.0))
    return found


def _mixed(ledger: Any, seen: Seen, bodies: list[bytes]) -> int:
    """Return how many answers are not exactly what the link that they name gives alone."""
    wrong = 0
    for number in sorted({link for link, _, _ in seen.answers}):
        link = find_link(ledger, f"{CHAIN}@{number}")
        for (named, body, record), digests in seen.answers.items():
            if named != number:
                continue
            rows = pd.DataFrame(json.loads(bodies[body])["dataframe_records"])
            alone = json.loads(json.dumps(link.predict(rows).to_dict("records")))
            wrong += record != link.view.record_digest or digests != {_digest(alone)}
    return wrong


def _digest(predictions: Any) -> str:
    return hashlib.sha256(json.dumps(predictions, sort_keys=True).encode()).hexdigest()


def _bodies() -> list[bytes]:
    """Return requests of 1 to 20 rows."""
    rng = np.random.default_rng(0)
    sizes = (1, 2, 5, 7, 11, 20)
    return [
        json.dumps({"dataframe_records": [{"n": int(n)} for n in rng.integers(1, 50, size)]}).encode()
        for size in sizes
    ]


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _server(folder: Path, uri: str, port: int) -> subprocess.Popen[bytes]:
    environment = os.environ | {
        "LINDLEY_HOME": str(folder),
        "LINDLEY_MODELS": str(folder),
        "MLFLOW_TRACKING_URI": uri,
    }
    command = [sys.executable, "-m", "flows.cli", "serve", CHAIN, "--port", str(port), "--json"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)


def _wait(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=10).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError("`lindley serve` ended")


def table(found: Result) -> str:
    """Return the result as a table."""
    columns = {
        "head moves": f"{found.moves}",
        "requests": f"{found.requests:,}",
        "clients": f"{found.clients}",
        "failed": f"{len(found.failed)}",
        "answers that are not their link's": f"{found.mixed}",
        "slowest head": f"{found.slowest:.2f} s",
        "median head": f"{found.median:.2f} s",
        "p50": f"{1000 * found.p50:.1f} ms",
        "p99": f"{1000 * found.p99:.1f} ms",
        "took": f"{found.seconds:.0f} s",
        "on": dt.date.today().isoformat(),
    }
    lines = [list(columns), ["---"] * len(columns), list(columns.values())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    """Measure, print, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=100)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--write", action="store_true", help="write README.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder), moves=options.moves, requests=options.requests, clients=options.clients)
    print(table(found))
    for line in found.failed[:10]:
        print(line)
    if options.write:
        page.write("heads", table(found))
    sys.exit(0 if found.holds else 1)


if __name__ == "__main__":
    main()
