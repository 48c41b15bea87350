"""Foreign pages, foreign names and other users are refused; the owner's browser gets the password unasked."""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
from pathlib import Path
from typing import Any

import pytest

from flows.server.guard import Guard, refusal, same_user

NAMES = ("localhost", "127.0.0.1", "[::1]", "lindley.example")
PAGE = {"accept": "text/html,*/*", "sec-fetch-dest": "document", "sec-fetch-site": "none"}


def connection(kind: str = "http", method: str = "GET", path: str = "/", **headers: str) -> dict[str, Any]:
    given = {"host": "127.0.0.1:4200"} | {name.replace("_", "-"): text for name, text in headers.items()}
    return {
        "type": kind, "method": method, "path": path,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 4200),
        "headers": [(name.encode(), text.encode()) for name, text in given.items()],
    }  # fmt: skip


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer "inside", with headers that the guard replaces."""
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-frame-options", b"ALLOW")]})
    await send({"type": "http.response.body", "body": b"inside"})


def ask(guard: Guard, scope: dict[str, Any]) -> tuple[int, dict[str, str], str]:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    asyncio.run(guard(scope, receive, send))
    if sent[0]["type"] == "websocket.close":
        return sent[0]["code"], {}, ""
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], headers, sent[1]["body"].decode()


def guard(owns: bool | None = True, **how: Any) -> Guard:
    return Guard(app, NAMES, owns=lambda *_: owns, **how)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": "localhost"},
        {"host": "LOCALHOST:8000"},
        {"host": "[::1]:4200"},
        {"host": "[::1]"},
        {"host": "lindley.example"},
        {"origin": "http://127.0.0.1:4200", "sec_fetch_site": "same-origin"},
        {"origin": "https://lindley.example", "host": "lindley.example"},  # behind a proxy that speaks TLS
        {"sec_fetch_site": "none", "sec_fetch_dest": "document"},
        {"sec_fetch_site": "cross-site", "sec_fetch_dest": "document"},  # a link on another page
    ],
)
def test_own_pages_and_programs_are_answered(headers):
    status, sent, text = ask(guard(), connection(**headers))
    assert (status, text) == (200, "inside")
    assert sent["x-frame-options"] == "SAMEORIGIN"
    assert sent["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:4200"},
        {"host": "10.evil.example"},
        {"host": "127.0.0.1.evil.example:4200"},
        {"host": "localhost.evil.example"},
        {"host": "localhost:4200@evil.example"},
        {"host": ""},
        {"host": "[::1]evil.example"},
        {"host": "0.0.0.0:4200"},
        {"host": "2130706433:4200"},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://localhost:4200"},
        {"origin": "http://127.0.0.1:3000"},
        {"origin": "http://127.0.0.1"},
        {"origin": "http://evil@127.0.0.1:4200"},
        {"sec_fetch_site": "cross-site", "sec_fetch_dest": "script"},
        {"sec_fetch_site": "same-site", "sec_fetch_dest": "empty"},
        {"sec_fetch_site": "cross-site", "sec_fetch_dest": "iframe"},
    ],
)
@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_foreign_names_and_pages_are_refused(headers, kind):
    status, sent, text = ask(guard(auth_string="lindley:secret"), connection(kind, **headers))
    assert status == (403 if kind == "http" else 1008)
    assert "inside" not in text
    assert "access-control-allow-origin" not in sent


def test_a_form_of_another_page_is_refused():
    headers = {"sec_fetch_site": "cross-site", "sec_fetch_dest": "document"}
    assert ask(guard(), connection(method="POST", **headers))[0] == 403


def test_a_request_that_states_its_length_twice_is_refused_and_ends_the_connection():
    status, headers, _ = ask(guard(), connection(content_length="4", transfer_encoding="chunked"))
    assert (status, headers["connection"]) == (403, "close")


def test_two_host_headers_or_none_are_refused():
    assert refusal({"host": ["localhost", "localhost"]}, "GET", NAMES)
    assert refusal({}, "GET", NAMES)


# -- the owner's browser ------------------------------------------------------------------------------


def page(**headers: str) -> dict[str, Any]:
    return connection(
        path="/runs", **({name.replace("-", "_"): text for name, text in PAGE.items()} | headers)
    )


def test_the_owners_browser_gets_the_password_once():
    made = guard(auth_string="lindley:secret")
    status, headers, text = ask(made, page())
    assert status == 200
    assert base64.b64encode(b"lindley:secret").decode() in text
    assert "no-store" in headers["cache-control"]
    nonce = re.findall(r"'nonce-([^']+)'", headers["content-security-policy"])
    assert f'<script nonce="{nonce[0]}">' in text
    cookie = headers["set-cookie"].partition(";")[0]
    assert "secret" not in cookie
    assert ask(made, page(cookie=f"a=b; {cookie}"))[2] == "inside"
    # Another password, as after a new installation, is handed out again.
    assert "inside" not in ask(guard(auth_string="lindley:other"), page(cookie=cookie))[2]


@pytest.mark.parametrize("owns", [False, None])
def test_another_user_gets_no_password(owns):
    assert ask(guard(owns, auth_string="lindley:secret"), page())[2] == "inside"


@pytest.mark.parametrize("header", ["x_forwarded_for", "forwarded", "via", "x_real_ip"])
def test_what_came_through_a_proxy_gets_no_password(header):
    assert ask(guard(auth_string="lindley:secret"), page(**{header: "127.0.0.1"}))[2] == "inside"


def test_what_is_no_page_gets_no_password():
    made = guard(auth_string="lindley:secret")
    assert ask(made, connection(path="/api/flows", accept="text/html"))[2] == "inside"
    assert ask(made, connection(accept="*/*"))[2] == "inside"
    assert ask(guard(), page())[2] == "inside"


def test_a_private_server_answers_its_own_user_only():
    assert ask(guard(False, private=True), connection())[0] == 403
    assert ask(guard(True, private=True), connection())[2] == "inside"
    assert ask(guard(None, private=True), connection())[2] == "inside"  # no Linux: it cannot be known


# -- whose connection ---------------------------------------------------------------------------------


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_kernel_says_whose_connection_it_is(family):
    with (
        socket.create_server(
            ("::1" if family == socket.AF_INET6 else "127.0.0.1", 0), family=family
        ) as server,
        socket.create_connection(server.getsockname()[:2]) as client,
    ):
        ends = client.getsockname()[:2], client.getpeername()[:2]
        assert same_user(*ends) is True
        assert same_user(ends[0], (ends[1][0], 1)) is False


def test_the_connection_of_another_user_is_not_ours(tmp_path: Path):
    line = "   0: 0100007F:{:04X} 0100007F:1068 01 00000000:00000000 00:00000000 00000000 {:5} 0 12345 1\n"
    table = tmp_path / "tcp"
    table.write_text("heading\n" + line.format(7, os.geteuid() + 1) + line.format(8, os.geteuid()))
    server = ("127.0.0.1", 4200)
    assert same_user(("127.0.0.1", 7), server, [table]) is False
    assert same_user(("127.0.0.1", 8), server, [table]) is True
    assert same_user(("127.0.0.1", 9), server, [table]) is False
    assert same_user(("127.0.0.1", 8), server, [tmp_path / "none"]) is None
