"""Clients that ask a server of predictions as fast as it answers."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Load:
    """What clients saw.

    Parameters
    ----------
    seconds
        Of each answer, from the request's first byte to the answer's last.
    failed
        Statuses other than 200, and errors of the connection.
    """

    seconds: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def quantile(self, level: float) -> float:
        """Return a quantile of the seconds."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(level * len(ordered)))]


def ask(
    port: int,
    bodies: Sequence[bytes],
    *,
    clients: int,
    requests: int,
    check: Callable[[int, Any, float], None] | None = None,
    stop: threading.Event | None = None,
) -> Load:
    """Send requests from several clients, each with a connection that it keeps.

    Parameters
    ----------
    port
        Of the server on loopback.
    bodies
        JSON bodies, taken in turns.
    clients, requests
        How many clients, and how many requests all of them send.
    check
        Takes the number of the body, the answer and the start of each request, in seconds of
        `time.perf_counter`.
    stop
        Ends the load before its time.
    """
    load, lock, next_one = Load(), threading.Lock(), iter(range(requests))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while not (stop and stop.is_set()):
            with lock:
                number = next(next_one, None)
            if number is None:
                break
            body, start = bodies[number % len(bodies)], time.perf_counter()
            try:
                connection.request("POST", "/invocations", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                content = answer.read()
            except OSError as error:
                load.failed.append(f"{type(error).__name__}: {error}")
                connection.close()
                continue
            load.seconds.append(time.perf_counter() - start)
            if answer.status != 200:
                load.failed.append(f"{answer.status}: {content[:200]!r}")
            elif check is not None:
                check(number % len(bodies), json.loads(content), start)
        connection.close()

    with ThreadPoolExecutor(clients) as pool:
        for each in [pool.submit(client) for _ in range(clients)]:
            each.result()
    return load
