"""The guard before MLflow's server: uvicorn's protocol class under ``lindley up``.

MLflow starts uvicorn with its own application, in a process of its own; uvicorn takes the class of its
protocol from an address. MLflow itself lets pages of every origin on ``localhost`` read and write, whatever
their port, and has no password here: so only connections of the user who started it are answered.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from flows.access import allowed_names
from flows.server.guard import Guard


def guarded(*args: Any, **options: Any) -> Any:
    """Return uvicorn's protocol for a new connection, with a guard before the application."""
    protocol: Any = AutoHTTPProtocol(*args, **options)
    protocol.app = Guard(protocol.app, allowed_names(), private=True)
    return protocol
