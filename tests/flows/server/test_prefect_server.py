"""Forms of Prefect's pages that meet a busy database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from flows.server import prefect_server
from flows.server.prefect_server import Resubmit


class Busy:
    """An application that answers with the given statuses, one after the other, and keeps the bodies."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.bodies = list(statuses), list[bytes]()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": self.statuses.pop(0), "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


def asked(app: Busy, parts: Sequence[bytes], *, path: str = "/api/flow_runs/1/resume", times: int = 4) -> int:
    """Send a request in parts; return the status of the only answer."""
    left = list(parts)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        body = left.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path}
    asyncio.run(Resubmit(app, times=times, wait=0)(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return int(sent[0]["status"])


def test_a_form_is_handed_in_again_while_the_database_is_busy() -> None:
    app = Busy(503, 503, 201)
    assert asked(app, [b"who", b"why"]) == 201
    assert app.bodies == [b"whowhy"] * 3


@pytest.mark.parametrize(("statuses", "status"), [([201], 201), ([409], 409), ([503] * 4, 503)])
def test_other_answers_and_the_last_one_are_passed_on(statuses: list[int], status: int) -> None:
    app = Busy(*statuses)
    assert asked(app, [b"form"]) == status
    assert app.statuses == []


def test_other_requests_are_asked_once() -> None:
    app = Busy(503)
    assert asked(app, [b"a", b"b"], path="/api/flow_runs/filter") == 503
    assert app.bodies == [b"ab"]


def test_a_form_that_is_too_large_to_keep_is_handed_in_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_server, "_MOST", 3)
    app = Busy(503)
    assert asked(app, [b"ab", b"cd", b"ef"]) == 503
    assert app.bodies == [b"abcdef"]
