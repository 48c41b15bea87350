"""The program of Prefect's server under ``lindley up``: ``prefect server start`` behind a guard.

Prefect has settings for origins and for a password, but none for the Host header. On SQLite it answers 503 to
a request that met another writer; its own clients send such a request again, its pages do not.
"""

from __future__ import annotations

import argparse
import asyncio
import os
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from flows.access import SERVER_VARIABLE, allowed_names
from flows.server.guard import App, Guard, Receive, Scope, Send

#: How a page hands in a form: the end of the path.
_FORM = "/resume"
#: Bytes of a form at most that is kept to be handed in again.
_MOST = 2**20
_BUSY = 503


@dataclass(frozen=True)
class Resubmit:
    """An ASGI application that hands a form in again while the database is busy.

    Parameters
    ----------
    app
        The application. Where it answers 503 nothing was changed.
    times
        How often a form is handed in at most.
    wait
        Seconds before the second time; each further wait is longer by as much.
    """

    app: App
    times: int = 8
    wait: float = 0.25

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        form = scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(_FORM)
        received = await _body(receive) if form else []
        if not received or received[-1].get("more_body"):
            await self.app(scope, _replayed(received, receive), send)
            return
        for time in range(1, self.times + 1):
            answer: list[MutableMapping[str, Any]] = []
            await self.app(dict(scope), _replayed(received, receive), _kept(answer))
            if time == self.times or not answer or answer[0].get("status") != _BUSY:
                break
            await asyncio.sleep(self.wait * time)
        for message in answer:
            await send(message)


async def _body(receive: Receive) -> list[MutableMapping[str, Any]]:
    """Receive a request to its end, or beyond `_MOST` bytes."""
    received: list[MutableMapping[str, Any]] = []
    size = 0
    while not received or (received[-1].get("more_body") and size <= _MOST):
        received.append(await receive())
        size += len(received[-1].get("body", b""))
    return received


def _replayed(received: list[MutableMapping[str, Any]], receive: Receive) -> Receive:
    """Return a `receive` that gives what was received, then what comes."""
    left = iter(received)

    async def again() -> MutableMapping[str, Any]:
        message = next(left, None)
        return await receive() if message is None else message

    return again


def _kept(answer: list[MutableMapping[str, Any]]) -> Send:
    """Return a `send` that keeps the answer."""

    async def keep(message: MutableMapping[str, Any]) -> None:
        answer.append(message)

    return keep


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    given = parser.parse_args()
    settings = get_current_settings().server
    app = Guard(Resubmit(create_app(final=True)), allowed_names(), os.environ[SERVER_VARIABLE])
    # The other options are those of `prefect server start`. No line for each request: one may hold a secret.
    uvicorn.run(
        app,
        host=given.host,
        port=given.port,
        timeout_keep_alive=settings.api.keepalive_timeout,
        ws_ping_interval=settings.api.websocket_ping_interval,
        ws_ping_timeout=settings.api.websocket_ping_timeout,
        log_level=settings.logging_level.lower(),
        access_log=False,
        proxy_headers=False,
    )


if __name__ == "__main__":
    main()
