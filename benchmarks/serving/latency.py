"""Seconds to an answer: ``python -m benchmarks.serving.latency``.

A server process answers with one belief; this process is its clients.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import psutil

from benchmarks.serving import models, page
from benchmarks.serving.load import ask


def serve(name: str, port: int) -> None:
    """Answer with one belief that no registry holds; everything after that is `lindley serve`."""
    from flows.live.listening import listening_socket, run
    from flows.live.predictions import Predictions
    from lindley.serving.predict import Predictor

    with tempfile.TemporaryDirectory() as folder:
        predictor = Predictor(models.draws(name), models.declared(name, Path(folder)))
    identity = {"chain": name, "link": 1, "version": 1, "record": "0" * 64}
    follower: Any = SimpleNamespace(
        chain=name,
        snapshot=SimpleNamespace(identity=identity, predictor=predictor),
        standing=SimpleNamespace(why=""),
        remember=lambda _: None,
    )
    run(Predictions({name: cast("Any", follower)}).app, listening_socket("127.0.0.1", port))


def measure(name: str, *, rows: int, clients: int, requests: int) -> dict[str, Any]:
    """Return the quantiles of a model's answers, in milliseconds."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "benchmarks.serving.latency", "--serve", name, "--port", str(port)]
    server = subprocess.Popen(command)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.2)
        bodies = [
            json.dumps({"dataframe_records": models.rows(name, rows, seed)}).encode() for seed in range(20)
        ]
        ask(port, bodies, clients=clients, requests=20 * clients)  # until everything is warm
        start, used = time.perf_counter(), _cpu(server.pid)
        load = ask(port, bodies, clients=clients, requests=requests)
        took, used = time.perf_counter() - start, _cpu(server.pid) - used
    finally:
        server.terminate()
        server.wait(30)
    found = {f"p{level}": round(1000 * load.quantile(level / 100), 1) for level in (50, 90, 99)}
    counts: dict[str, float] = {"per second": round(requests / took), "failed": len(load.failed)}
    counts["CPU"] = round(1000 * used / requests, 1)
    return {"model": name, "rows": rows, "clients": clients, "requests": requests} | found | counts


def _cpu(pid: int) -> float:
    """Return the seconds of CPU that a process has used."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def main() -> None:
    """Measure each model alone and with four clients; print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", choices=models.MODELS)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--only", nargs="*", choices=models.MODELS, default=list(models.MODELS))
    parser.add_argument("--write", action="store_true", help="write README.md")
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port)
        return
    columns = ("model", "rows", "clients", "requests", "p50", "p90", "p99", "CPU", "per second", "failed")
    lines = ["| " + " | ".join(columns) + " |", "| --- " * len(columns) + "|"]
    print("\n".join(lines))
    for name in options.only:
        for clients in (1, 4):
            found = measure(name, rows=options.rows, clients=clients, requests=options.requests)
            lines.append("| " + " | ".join(str(found[column]) for column in columns) + " |")
            print(lines[-1], flush=True)
    if options.write:
        stated = f"Measured on {dt.date.today().isoformat()}, {os.cpu_count()} cores{_beside()}:"
        page.write("latency", stated + "\n\n" + "\n".join(lines))


def _beside() -> str:
    """Say what else the machine did."""
    load = os.getloadavg()[2]
    return f", load average {load:.1f} over the 15 minutes before the end"


if __name__ == "__main__":
    main()
