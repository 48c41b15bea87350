"""What stands before a server: requests of foreign web pages and under foreign names are refused.

A server on loopback is reached by every web page that a browser on this machine shows, and by every user of
this machine. Against pages: the name in the address must be one of this machine's own (a page can point its
own name at 127.0.0.1, "DNS rebinding"), a page of another origin is refused, and no page may frame this one.
Against users: the kernel states which user a connection on loopback belongs to. Prefect's API has a password
(`flows.access`), which the browsers of the owner get without being asked; MLflow's server answers its own
user only.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import os
import secrets
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
#: Address and port of one end of a connection.
End = tuple[str, int]

#: Sent with every answer.
_HEADERS = {
    b"x-frame-options": b"SAMEORIGIN",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
}
#: A request with one of these came through a proxy: its connection says nothing about who asks.
_PROXIED = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip")
#: Where Prefect's pages, of both versions, look for the password.
_KEY = "prefect-password"
#: Seconds until a browser is handed the password again.
_HAND_OUT_SECONDS = 600
_SOCKETS = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))


@dataclass(frozen=True)
class Guard:
    """An ASGI application that refuses what comes from elsewhere and hands the rest on.

    Parameters
    ----------
    app
        The application.
    names
        Host names under which it may be asked, lower case, IPv6 in brackets.
    auth_string
        User and password that the owner's browsers get; empty for none.
    private
        Refuse connections of other users.
    owns
        Whether a connection, given by both ends, belongs to the user of this process; None if that is
        unknown.
    """

    app: App
    names: tuple[str, ...]
    auth_string: str = ""
    private: bool = False
    owns: Callable[[End, End], bool | None] = field(default_factory=lambda: same_user)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one connection."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        headers = _headers(scope["headers"])
        why = refusal(headers, str(scope.get("method", "GET")), self.names)
        if not why and self.private and self._owned(scope) is False:
            why = "This server is another user's"
        if why:
            await _refuse(scope, receive, send, why)
        elif self._hands_out(scope, headers):
            await self._hand_out(scope, send)
        else:
            await self.app(scope, receive, _with_headers(send))

    def _hands_out(self, scope: Scope, headers: Mapping[str, list[str]]) -> bool:
        """Return whether this request is the owner's browser that opens a page and has no password yet."""
        if not self.auth_string or scope["type"] != "http" or scope["method"] != "GET":
            return False
        opens = "text/html" in _first(headers, "accept") and not scope["path"].startswith("/api")
        if not opens or f"{self._cookie(scope)}={self._mark}" in _first(headers, "cookie"):
            return False
        return not any(name in headers for name in _PROXIED) and self._owned(scope) is True

    def _owned(self, scope: Scope) -> bool | None:
        """Return whether a connection belongs to the user of this process; None if that is unknown."""
        client, server = scope.get("client"), scope.get("server")
        return self.owns((client[0], client[1]), (server[0], server[1])) if client and server else None

    async def _hand_out(self, scope: Scope, send: Send) -> None:
        """Answer with a page that keeps the password in the browser, for this origin only, and reloads."""
        nonce = secrets.token_urlsafe(16)
        password = base64.b64encode(self.auth_string.encode()).decode()
        page = (
            "<!doctype html><meta charset=utf-8><title>Lindley</title>"
            "<p>This page needs JavaScript and cookies.</p>"
            f'<script nonce="{nonce}">localStorage.setItem("{_KEY}","{password}");'
            "if(navigator.cookieEnabled)location.reload()</script>"
        )
        cookie = f"{self._cookie(scope)}={self._mark}; Path=/; SameSite=Strict; HttpOnly"
        policy = f"default-src 'none'; script-src 'nonce-{nonce}'; frame-ancestors 'none'"
        headers = {
            b"content-type": b"text/html; charset=utf-8",
            b"cache-control": b"no-store",
            b"content-security-policy": policy.encode(),
            b"set-cookie": f"{cookie}; Max-Age={_HAND_OUT_SECONDS}".encode(),
        }
        await _answer(send, 200, page, headers | _HEADERS)

    def _cookie(self, scope: Scope) -> str:
        """Return the cookie's name: browsers share cookies among the ports of a host."""
        return f"lindley-{(scope.get('server') or ('', 0))[1]}"

    @property
    def _mark(self) -> str:
        """Return what the cookie of a browser holds that has this password: not the password itself."""
        return hashlib.sha256(f"handed out: {self.auth_string}".encode()).hexdigest()[:16]


def refusal(headers: Mapping[str, list[str]], method: str, names: Iterable[str]) -> str:
    """Return why a request is refused; empty if it is not.

    Parameters
    ----------
    headers
        By lower-case name.
    method
        Of the request; GET for a web socket.
    names
        Host names under which the server may be asked.
    """
    hosts = headers.get("host", [])
    if len(hosts) != 1 or _name(hosts[0]) not in set(names):
        return f"This server is not called {hosts[0] if len(hosts) == 1 else hosts!r}"
    for origin in headers.get("origin", []):
        # A proxy in front may speak TLS, so only the address is compared, not the scheme.
        if urlsplit(origin).netloc.lower() != hosts[0].lower():
            return f"Pages of {origin} may not use this server"
    if "content-length" in headers and "transfer-encoding" in headers:
        return "A request that states its length twice is refused"  # another program may see two requests
    site = _first(headers, "sec-fetch-site")
    opened = method == "GET" and _first(headers, "sec-fetch-dest") == "document"
    if site in {"cross-site", "same-site"} and not opened:
        return "Pages of other sites may not use this server"
    return ""


def same_user(client: End, server: End, tables: Iterable[Path] = _SOCKETS) -> bool | None:
    """Return whether a TCP connection from this machine was opened by the user of this process.

    The kernel's tables of sockets contain it. A connection that they lack comes from another machine or
    network namespace. Where there are no tables (not Linux) the answer is None.

    Parameters
    ----------
    client, server
        Address and port of both ends.
    tables
        The kernel's tables.
    """
    wanted, known = [_end(*client), _end(*server)], None
    for table in tables:
        try:
            lines = table.read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        known = False
        for line in lines:
            fields = line.split()
            if fields[1:3] == wanted:
                return int(fields[7]) == os.geteuid()
    return known


def _end(host: str, port: int) -> str:
    """Return an end of a connection as the kernel's tables show it: words of 32 bits in its byte order."""
    packed = ipaddress.ip_address(host).packed
    words = [packed[start : start + 4] for start in range(0, len(packed), 4)]
    if sys.byteorder == "little":
        words = [word[::-1] for word in words]
    return f"{b''.join(words).hex().upper()}:{port:04X}"


def _name(host: str) -> str:
    """Return the name in a Host header, without the port."""
    name, _, port = host.lower().rpartition(":")
    return name if name and port.isdigit() and (not name.count(":") or name.endswith("]")) else host.lower()


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in raw:
        found.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
    return found


def _first(headers: Mapping[str, list[str]], name: str) -> str:
    return headers.get(name, [""])[0]


def _with_headers(send: Send) -> Send:
    """Return a `send` that adds what every answer has."""

    async def add(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            kept = [(name, value) for name, value in message.get("headers", []) if name not in _HEADERS]
            message["headers"] = [*kept, *_HEADERS.items()]
        await send(message)

    return add


async def _refuse(scope: Scope, receive: Receive, send: Send, why: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": "refused"})
        return
    headers = {b"content-type": b"text/plain; charset=utf-8", b"connection": b"close"} | _HEADERS
    await _answer(send, 403, f"{why}.\n", headers)


async def _answer(send: Send, status: int, text: str, headers: Mapping[bytes, bytes]) -> None:
    body = text.encode("utf-8", "replace")
    sent = [*headers.items(), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": sent})
    await send({"type": "http.response.body", "body": body})
