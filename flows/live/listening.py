"""Where a live server listens: on loopback for this user, or beyond it with a token."""

from __future__ import annotations

import logging
import os
import socket
import sys
from functools import cache
from typing import Any

import uvicorn
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from flows.access import LOOPBACK_NAMES, NAMES_VARIABLE, allowed_names
from flows.server.guard import Guard, same_user
from lindley.errors import LindleyError

#: Variable with the token that requests have to bring.
TOKEN_VARIABLE = "LINDLEY_SERVE_TOKEN"  # noqa: S105
_TOKEN_CHARACTERS = 20
#: Seconds between the turns of Python's threads: an answer does not wait for the arithmetic of another.
_TURN = 0.001
#: Seconds in which requests under way may end after the server was told to stop.
_END_SECONDS = 10


class ListeningRefused(LindleyError):
    """An address on which a server may not listen, or cannot."""


def token_for(host: str) -> str:
    """Return the token that requests have to bring; empty where a server on loopback has none.

    Raises
    ------
    ListeningRefused
        If a server beyond loopback has none, or one that could be guessed.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if token and (len(token) < _TOKEN_CHARACTERS or not token.isascii() or not token.isprintable()):
        raise ListeningRefused(
            f"The token in {TOKEN_VARIABLE} cannot be used",
            expected=f"at least {_TOKEN_CHARACTERS} printable ASCII characters",
            found=f"{len(token)} characters",
            todo="take a random one: `openssl rand -hex 32`",
        )
    if not token and not _is_loopback(host):
        raise ListeningRefused(
            f"A server on {host} would answer every machine that reaches it",
            expected=f"a token in the environment variable {TOKEN_VARIABLE}",
            found="none",
            todo=f"set {TOKEN_VARIABLE} to a random text, or leave out --host",
        )
    return token


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound; port 0 takes a free one.

    Raises
    ------
    ListeningRefused
        If address or port cannot be used.
    """
    # asyncio sends small answers at once (TCP_NODELAY) only on sockets that name their protocol.
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        raise ListeningRefused(
            f"The server cannot listen on {host}, port {port}",
            expected="an address of this machine and a free port",
            found=str(error)[:200],
            todo="stop the program that uses the port, or pass --port 0 for a free one",
        ) from error
    return bound


def run(app: Any, bound: socket.socket, *, token: str = "") -> None:
    """Answer on a bound socket until the process is told to stop; requests under way end first.

    On loopback, pages of other origins and foreign Host headers are refused (`flows.server.guard`), and other
    users of this machine where there is no token.
    """
    sys.setswitchinterval(_TURN)
    server(app, bound, token=token).run(sockets=[bound])


def server(app: Any, bound: socket.socket, *, token: str = "") -> uvicorn.Server:
    """Return the server of `run`, which has not started."""
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    config = uvicorn.Config(
        app,
        http=_guarded(_is_loopback(bound.getsockname()[0]), private=not token),
        access_log=False,
        log_level="warning",
        lifespan="off",
        ws="none",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_END_SECONDS,
    )
    return uvicorn.Server(config)


def _guarded(on_loopback: bool, *, private: bool) -> Any:
    """Return uvicorn's protocol with a guard before the application, one for each connection."""

    def protocol(*args: Any, **options: Any) -> Any:
        made: Any = AutoHTTPProtocol(*args, **options)
        if on_loopback or os.environ.get(NAMES_VARIABLE):
            # Whose connection it is does not change: the kernel's tables are read once.
            made.app = Guard(
                made.app, allowed_names(), private=private and on_loopback, owns=cache(same_user)
            )
        return made

    return protocol


def _is_loopback(host: str) -> bool:
    return host in {name.strip("[]") for name in LOOPBACK_NAMES} or host.startswith("127.")
