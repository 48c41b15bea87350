"""A live server of this process: its own thread, a free loopback port, and a client of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from flows.live.listening import listening_socket, server

#: Two rows of the coins, as a request has them.
ROWS = {"dataframe_records": [{"n": 10}, {"n": 1000}]}


@contextmanager
def running(app: Any, *, token: str = "") -> Iterator[httpx.Client]:
    """Answer with an application during a block; give a client of it."""
    with listening_socket("127.0.0.1", 0) as bound:
        made = server(app, bound, token=token)
        thread = threading.Thread(target=made.run, kwargs={"sockets": [bound]})
        thread.start()
        address = f"http://127.0.0.1:{bound.getsockname()[1]}"
        try:
            while not made.started:
                time.sleep(0.01)
            with httpx.Client(base_url=address, trust_env=False, timeout=60) as client:
                yield client
        finally:
            made.should_exit = True
            thread.join()
