"""Tries on what `lindley up` listens on: names, origins, methods, raw bytes, web sockets, routes."""

from __future__ import annotations

import base64
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.attacks.table import Surface

SERVERS = Surface("servers of lindley up", "servers")
EVIL = "evil.example"


@dataclass
class Servers:
    """The servers that run for a working folder.

    Parameters
    ----------
    root
        The working folder.
    addresses
        Of ``mlflow`` and ``prefect``.
    pid
        Of the process that started them.
    """

    root: Path
    addresses: dict[str, str]
    pid: int

    def netloc(self, server: str) -> str:
        return urlsplit(self.addresses[server]).netloc

    @property
    def password(self) -> str:
        return (self.root / ".lindley" / "prefect.password").read_text().strip()

    def send(self, server: str, data: bytes) -> str:
        """Send bytes to a server; return the beginning of its answer."""
        host, port = self.netloc(server).split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(data)
            connection.settimeout(20)
            answer = b""
            try:
                while b"\r\n\r\n" not in answer and (more := connection.recv(2**16)):
                    answer += more
            except TimeoutError:
                answer += b"(no answer)"
        return answer.decode("latin-1")

    def ask(
        self,
        server: str,
        path: str,
        *,
        method: str = "GET",
        body: bytes = b"",
        version: str = "1.1",
        **headers: str,
    ) -> tuple[int, str]:
        """Send a request; return the status and the head of the answer."""
        given = {"host": self.netloc(server), "connection": "close", "content-length": str(len(body))}
        given |= {name.replace("_", "-"): text for name, text in headers.items()}
        lines = [f"{method} {path} HTTP/{version}", *(f"{n}: {t}" for n, t in given.items() if t), "", ""]
        answer = self.send(server, "\r\n".join(lines).encode() + body)
        status = re.match(r"HTTP/1\.\d (\d+)", answer)
        return int(status.group(1)) if status else 0, answer

    def authorized(self) -> str:
        return f"Basic {base64.b64encode(self.password.encode()).decode()}"


def outcome(status: int, *refusals: int) -> str:
    return f"refused: {status}" if status in refusals else f"done: {status}"


# -- names, origins, methods --------------------------------------------------------------------------

_PATHS = {
    "mlflow": [
        "/", "/health", "/version", "/api/2.0/mlflow/registered-models/search",
        "/ajax-api/2.0/mlflow/experiments/search",
        "/graphql", "/get-artifact?run_uuid=x&path=y", "/model-versions/get-artifact?name=x&version=1&path=y",
        "/ajax-api/2.0/mlflow/upload-artifact", "/ajax-api/3.0/mlflow/assistant/config", "/v1/traces",
        "/gateway/x/mlflow/invocations", "/docs", "/openapi.json",
    ],
    "prefect": [
        "/", "/api/health", "/api/admin/version", "/api/flow_runs/filter", "/api/admin/settings",
        "/ui-settings",
        "/docs", "/openapi.json", "/api/docs", "/api/csrf-token?client=x", "/v2/", "/runs",
    ],
}  # fmt: skip
_FOREIGN = {
    "a name that its owner points here": {"host": EVIL},
    "the address as a number": {"host": "2130706433"},
    "an address of this machine's network": {"host": "10.0.0.1"},
    "a page of another site": {"origin": f"https://{EVIL}", "sec_fetch_site": "cross-site"},
    "a page on another port": {"origin": "http://127.0.0.1:3000", "sec_fetch_site": "same-site"},
    "a page without an origin": {"origin": "null"},
    "a file on this disk": {"origin": "file://", "sec_fetch_site": "cross-site"},
    "two names": {"host": "127.0.0.1, evil.example"},
}


@SERVERS.each("every route of both, from", _FOREIGN, "refused")
def foreign(ground: Servers, headers: dict[str, str]) -> str:
    for server, paths in _PATHS.items():
        for path in paths:
            status, answer = ground.ask(server, path, **headers)
            if status not in {400, 403}:
                return f"done: {server}{path} answers {status}"
            assert "access-control-allow-origin" not in answer.lower(), path
    return "refused: 403"


_FORMS = {
    "application/x-www-form-urlencoded": b"name=stolen",
    "text/plain": b'{"name": "stolen"}',
    "multipart/form-data; boundary=x": (
        b'--x\r\ncontent-disposition: form-data; name="name"\r\n\r\nstolen\r\n--x--'
    ),
}


@SERVERS.each("a form of another site that writes, as", dict(zip(_FORMS, _FORMS, strict=True)), "refused")
def form(ground: Servers, kind: str) -> str:
    for server, path in (
        ("mlflow", "/api/2.0/mlflow/registered-models/create"),
        ("mlflow", "/ajax-api/2.0/mlflow/experiments/create"),
        ("prefect", "/api/events"),
        ("prefect", "/api/deployments/filter"),
    ):
        headers = {"content_type": kind, "origin": f"https://{EVIL}"}
        status, _ = ground.ask(server, path, method="POST", body=_FORMS[kind], **headers)
        if status != 403:
            return f"done: {server}{path} answers {status}"
    return "refused: 403"


_METHODS = ["TRACE", "CONNECT", "PROPFIND", "DEBUG"]


@SERVERS.each("the method", dict(zip(_METHODS, _METHODS, strict=True)), "refused")
def method(ground: Servers, given: str) -> str:
    for server in ("mlflow", "prefect", "pages"):
        status, _ = ground.ask(server, "/api/health", method=given, origin=f"https://{EVIL}")
        if status < 400:
            return f"done: {server} answers {status}"
    return "refused: 4xx"


@SERVERS.attempt("a method that a header replaces (X-HTTP-Method-Override)", "harmless")
def override(ground: Servers) -> str:
    path = "/api/2.0/mlflow/registered-models/get?name=none"
    status, _ = ground.ask("mlflow", path, x_http_method_override="DELETE", x_http_method="DELETE")
    return "harmless: it stays a GET" if status == 404 else f"done: {status}"


@SERVERS.attempt("headers that state another host before a proxy", "harmless")
def forwarded(ground: Servers) -> str:
    status, answer = ground.ask(
        "prefect", "/", accept="text/html", x_forwarded_host=EVIL, x_forwarded_for="127.0.0.1"
    )
    assert "prefect-password" not in answer
    return "harmless: no password is handed out" if status < 400 else f"refused: {status}"


# -- raw bytes ----------------------------------------------------------------------------------------

_RAW = {
    "two lengths": "content-length: 4\r\ncontent-length: 50\r\n\r\n{{}}",
    "a length and chunks": (
        "content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\n\r\n"
    ),
    "a length below zero": "content-length: -1\r\n\r\n",
    "chunks of a size that is none": "transfer-encoding: chunked\r\n\r\nzz\r\n",
    "a header that is folded": "x: a\r\n b\r\ncontent-length: 0\r\n\r\n",
    "a second Host": "host: evil.example\r\ncontent-length: 0\r\n\r\n",
    "NUL in a header": "x: a\x00b\r\ncontent-length: 0\r\n\r\n",
    "a space before the colon": "content-length : 0\r\ntransfer-encoding : chunked\r\n\r\n",
    "a header of 200,000 bytes": f"x: {'y' * 200_000}\r\n\r\n",
}


@SERVERS.each("a request with", _RAW, "refused")
def raw(ground: Servers, text: str) -> str:
    """One answer and the end of the connection, or a plain answer without a second one."""
    for server in ("mlflow", "prefect", "pages"):
        head = f"POST /api/none HTTP/1.1\r\nhost: {ground.netloc(server)}\r\n"
        answer = ground.send(server, (head + text).encode("latin-1"))
        found = re.findall(r"HTTP/1\.\d (\d+)", answer)
        if len(found) > 1 or any(status.startswith("2") for status in found):
            return f"done: {server} answers {found}"
    return "refused: at most one answer, an error"


@SERVERS.attempt("a request without a Host", "refused")
def hostless(ground: Servers) -> str:
    statuses = {
        ground.ask(server, "/api/health", host="", version="1.0")[0]
        for server in ("mlflow", "prefect", "pages")
    }
    return outcome(max(statuses), 400, 403)


@SERVERS.attempt("a path with ways upwards, plain and encoded", "refused")
def traversal(ground: Servers) -> str:
    secret = ground.password
    for server in ("mlflow", "prefect", "pages"):
        for path in (
            "/../../../../etc/passwd", "/static-files/..%2f..%2fetc%2fpasswd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/assets/..%5c..%5cetc/passwd", "/static/%00/etc/passwd", "//etc/passwd",
            "/v2/../../.lindley/prefect.password", "/get-artifact?run_uuid=..&path=../../etc/passwd",
            "/model-versions/get-artifact?name=beta_binomial&version=1&path=../../../../../etc/passwd",
        ):  # fmt: skip
            _, answer = ground.ask(server, path)
            if "root:" in answer or secret in answer:
                return f"done: {server}{path} answers with the file"
    return "refused: no file from elsewhere"
