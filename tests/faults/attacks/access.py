"""Tries on Prefect's API, on what else listens, and on secrets of `lindley up`."""

from __future__ import annotations

import base64
import json
import stat
import time
import urllib.request
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import psutil
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from tests.faults.attacks.listening import EVIL, SERVERS, Servers, outcome

_ENDED = {"FAILED", "CRASHED", "COMPLETED", "CANCELLED"}

# -- Prefect's API ------------------------------------------------------------------------------------

_OPEN = [
    "/api/flow_runs/filter", "/api/deployments/filter", "/api/work_pools/filter",
    "/api/block_documents/filter",
    "/api/variables/filter", "/api/logs/filter", "/api/artifacts/filter", "/api/automations/filter",
    "/api/events/filter", "/api/events", "/api/task_runs/filter", "/api/concurrency_limits/filter",
]  # fmt: skip
_PASSWORDS = {
    "no password": "",
    "an empty one": f"Basic {base64.b64encode(b'lindley:').decode()}",
    "the user alone": f"Basic {base64.b64encode(b'lindley').decode()}",
    "a bearer token": "Bearer x",
    "no base64": "Basic \x80\xff",
    "a password of 100 kB": f"Basic {base64.b64encode(b'lindley:' + b'x' * 60_000).decode()}",
}


@SERVERS.each("Prefect's API with", _PASSWORDS, "refused")
def password(ground: Servers, given: str) -> str:
    for path in _OPEN:
        status, _ = ground.ask(
            "prefect", path, method="POST", body=b"{}", content_type="application/json", authorization=given
        )
        if status not in {400, 401, 403, 431}:
            return f"done: {path} answers {status}"
    return "refused: 401"


_SOCKETS = ["/api/events/in", "/api/events/out", "/api/logs/out", "/api/task_runs/subscriptions/scheduled"]


@SERVERS.each("a web socket without the password to", dict(zip(_SOCKETS, _SOCKETS, strict=True)), "refused")
def web_socket(ground: Servers, path: str) -> str:
    event = {
        "event": "lindley.batch.arrived", "occurred": "2026-01-01T00:00:00Z", "id": "0" * 32,
        "resource": {"prefect.resource.id": "lindley.landing.x"},
        "payload": {"chain": "x", "file": "/etc/passwd"},
    }  # fmt: skip
    for protocol in ("", "prefect"):
        statuses = _spoken(ground, path, protocol, [{"type": "auth", "token": "x"}, event])
        if statuses == "open":
            return f"done: {path} stays open"
    return "refused: it is closed"


def _spoken(ground: Servers, path: str, protocol: str, messages: list[dict[str, Any]]) -> str:
    """Open a web socket, send messages; return whether it stays open."""
    url = ground.addresses["prefect"].replace("http", "ws") + path
    try:
        with connect(url, subprotocols=[protocol] if protocol else None, proxy=None) as opened:  # type: ignore[list-item]
            for message in messages:
                opened.send(json.dumps(message))
            opened.recv(timeout=3)
            opened.recv(timeout=3)
    except TimeoutError:
        return "open"
    except (WebSocketException, OSError):
        return "closed"
    return "open"


@SERVERS.attempt("a web socket of a page of another site", "refused")
def web_socket_origin(ground: Servers) -> str:
    headers = {
        "connection": "Upgrade", "upgrade": "websocket", "sec_websocket_version": "13",
        "sec_websocket_key": "dGhlIHNhbXBsZSBub25jZQ==", "origin": f"https://{EVIL}",
    }  # fmt: skip
    return outcome(max(ground.ask("prefect", path, **headers)[0] for path in _SOCKETS), 403)


def _api(ground: Servers, path: str, body: Any, method: str = "POST") -> tuple[int, str]:
    return ground.ask(
        "prefect", f"/api/{path}", method=method, body=json.dumps(body).encode(),
        content_type="application/json", authorization=ground.authorized(),
    )  # fmt: skip


_EVENTS = {
    "an object as the name of a file": {"chain": "beta_binomial", "file": {"__prefect_kind": "jinja"}},
    "a file of the system": {"chain": "beta_binomial", "file": "/etc/passwd"},
    "a chain with ways upwards": {"chain": "../../etc", "file": "passwd"},
}


def event(ground: Servers, payload: dict[str, Any]) -> str:
    """Send an event, with the password; return what became of it.

    The run that it starts fails and reads nothing, or no run starts."""
    before = {run["id"] for run in _runs(ground)}
    made = {
        "event": "lindley.batch.arrived",
        "occurred": datetime.now(UTC).isoformat(),
        "resource": {"prefect.resource.id": f"lindley.landing.{uuid4()}"},
        "payload": payload,
        "id": str(uuid4()),
    }
    status, _ = _api(ground, "events", [made])
    assert status < 300, status
    end, states = time.monotonic() + 50, set[str]()
    while time.monotonic() < end and not (states and states <= _ENDED):
        time.sleep(0.5)
        states = {run["state_type"] for run in _runs(ground) if run["id"] not in before}
        if not states and time.monotonic() > end - 40:
            return "refused: no run starts"
    return "refused: the run fails" if states == {"FAILED"} else f"done: {states}"


SERVERS.each("an event of somebody who has the password, with", _EVENTS, "refused", costly=True)(event)


@SERVERS.attempt("an event with a template as the name of a file", "harmless", costly=True)
def template(ground: Servers) -> str:
    name = "{{ 7 * 7 }}{{ event.id }}.csv"
    assert event(ground, {"chain": "beta_binomial", "file": name}) == "done: {'COMPLETED'}"  # no such file
    given = [run["parameters"].get("file") for run in _runs(ground)]
    return "harmless: the text stays text" if name in given else f"done: {given}"


def _runs(ground: Servers) -> list[dict[str, Any]]:
    """Return all flow runs."""
    request = urllib.request.Request(
        f"{ground.addresses['prefect']}/api/flow_runs/filter",
        b"{}",
        {"content-type": "application/json", "authorization": ground.authorized()},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: list[dict[str, Any]] = json.loads(answer.read())
    return found


# -- what listens, and secrets ------------------------------------------------------------------------


@SERVERS.attempt("a port of which nothing is known", "harmless")
def ports(ground: Servers) -> str:
    known = {int(ground.netloc(server).split(":")[1]) for server in ("mlflow", "prefect", "pages")}
    tree = [psutil.Process(ground.pid), *psutil.Process(ground.pid).children(recursive=True)]
    found = {
        (connection.laddr.ip, connection.laddr.port)
        for process in tree
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {ip for ip, _ in found} == {"127.0.0.1"}, found
    others = {port for _, port in found} - known
    # The channel over which a run hears of its cancellation, with a token, while a run is carried out.
    return "harmless: the three servers, on loopback" if len(others) <= 2 else f"done: {others} listen, too"


@SERVERS.attempt("the file of the password, read by other users", "harmless")
def modes(ground: Servers) -> str:
    mode = stat.S_IMODE((ground.root / ".lindley" / "prefect.password").stat().st_mode)
    return "harmless: mode 600" if mode == 0o600 else f"done: mode {mode:o}"


@SERVERS.attempt("the password in logs, command lines, tables and pages", "harmless")
def leaks(ground: Servers) -> str:
    secret = ground.password.partition(":")[2].encode()
    for path in ground.root.rglob("*"):
        if path.is_file() and path.name != "prefect.password" and secret in path.read_bytes():
            return f"done: {path.relative_to(ground.root)} holds it"
    for process in psutil.Process(ground.pid).children(recursive=True):
        if secret.decode() in " ".join(process.cmdline()):
            return f"done: the command line of {process.name()} holds it"
    _, answer = ground.ask("prefect", "/ui-settings")
    return "harmless: nowhere" if secret.decode() not in answer else "done: /ui-settings holds it"


@SERVERS.attempt(
    "another MLflow experiment whose artifacts are files of the system",
    "threat model",
    "processes of the same user do, without a password",
)
def experiment(ground: Servers) -> str:
    body = json.dumps({"name": "attack", "artifact_location": "file:///etc"}).encode()
    status, _ = ground.ask(
        "mlflow",
        "/api/2.0/mlflow/experiments/create",
        method="POST",
        body=body,
        content_type="application/json",
    )
    return "threat model: the same user reads the file anyway" if status in {200, 400} else f"done: {status}"
