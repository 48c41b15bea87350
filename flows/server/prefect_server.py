"""The program of Prefect's server under ``lindley up``: ``prefect server start`` behind a guard.

Prefect has settings for origins and for a password, but none for the Host header.
"""

from __future__ import annotations

import argparse
import os

import uvicorn
from prefect.server.api.server import create_app
from prefect.settings import get_current_settings

from flows.access import SERVER_VARIABLE, allowed_names
from flows.server.guard import Guard


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    given = parser.parse_args()
    settings = get_current_settings().server
    app = Guard(create_app(final=True), allowed_names(), os.environ[SERVER_VARIABLE])
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
