"""The server of predictions: MLflow's protocol on the newest link, refusals in one sentence."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest

from flows.live import following
from flows.live.following import Follower, resolved
from flows.live.listening import ListeningRefused, listening_socket, token_for
from flows.live.predictions import Predictions
from lindley.errors import LedgerUnavailable, LindleyError
from lindley.ledger.history import find_link
from lindley.model.declaration import Declaration
from tests.support import fakes
from tests.support.live import ROWS, running

JSON = {"content-type": "application/json"}


@pytest.fixture
def follower(ledger: fakes.MemoryLedger) -> Follower:
    return Follower(ledger, "coins")


@pytest.fixture
def clients() -> Iterator[Callable[..., httpx.Client]]:
    """Start a server for the given followers; return a client of it."""
    with ExitStack() as stack:

        def start(*followers: Follower, token: str = "", most_bytes: int = 2**24) -> httpx.Client:
            served = Predictions({f.chain: f for f in followers}, token=token, most_bytes=most_bytes)
            return stack.enter_context(running(served.app, token=token))

        yield start


@pytest.fixture
def client(follower: Follower, clients: Callable[..., httpx.Client]) -> httpx.Client:
    return clients(follower)


def alone(ledger: fakes.MemoryLedger, link: int, body: dict[str, Any] = ROWS) -> list[dict[str, Any]]:
    """What one link predicts by itself."""
    found = find_link(ledger, f"coins@{link}").predict(pd.DataFrame(body["dataframe_records"]))
    return json.loads(json.dumps(found.to_dict("records")))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", json.dumps(ROWS)),
        ("application/json; charset=utf-8", json.dumps({"instances": ROWS["dataframe_records"]})),
        ("application/json", json.dumps({"inputs": {"n": [10, 1000]}, "params": {"seed": 0}})),
        ("application/json", json.dumps({"dataframe_split": {"columns": ["n"], "data": [[10], [1000]]}})),
        ("text/csv", "n\n10\n1000\n"),
    ],
)
def test_every_form_of_the_protocol_gives_what_the_link_gives_alone(
    kind: str, body: str, client: httpx.Client, ledger: fakes.MemoryLedger
) -> None:
    answer = client.post("/invocations", content=body, headers={"content-type": kind})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == alone(ledger, 1)
    view = find_link(ledger, "coins").view
    named = {"chain": "coins", "link": 1, "version": 1, "record": view.record_digest}
    assert answer.json()["lindley"] == named
    assert {name: answer.headers[f"x-lindley-{name}"] for name in named} == {
        k: str(v) for k, v in named.items()
    }


@pytest.mark.parametrize(
    ("kind", "body", "status", "words"),
    [
        ("application/json", "{", 400, "no JSON"),
        ("application/json", "[" * 100_000, 400, "no JSON"),
        ("application/json", "[]", 400, "not a JSON object"),
        ("application/json", "{}", 400, "one of the keys"),
        ("application/json", '{"inputs": {}, "instances": []}', 400, "one of the keys"),
        ("application/json", '{"instances": [[1]]}', 400, "a list of objects"),
        ("application/json", '{"instances": [], "x": 1}', 400, "unknown key 'x'"),
        ("application/json", '{"dataframe_split": {"data": [[1]]}}', 400, "columns and data"),
        ("application/json", '{"dataframe_split": {"columns": ["n"], "data": [[1, 2]]}}', 400, "columns"),
        ("application/json", '{"inputs": {"n": [1], "id": [1, 2]}}', 400, "same length"),
        ("application/json", '{"instances": [{"n": 10}], "params": {"seed": 1.5}}', 400, "whole number"),
        ("application/json", '{"instances": [{"n": 10}], "params": {"tau": 1}}', 400, "seed"),
        ("application/json", '{"instances": [{"n": 10.5}]}', 400, "10.5 in row 1"),
        ("application/json", '{"instances": [{"n": -10}]}', 400, "n < 0"),
        ("application/json", '{"instances": [{"m": 1}]}', 400, "n"),
        ("text/csv", "", 400, "no CSV"),
        ("text/csv", "n\nx\n", 400, "'x' in row 1"),
        ("application/xml", "<a/>", 415, "application/json or text/csv"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(
    kind: str, body: str, status: int, words: str, client: httpx.Client
) -> None:
    answer = client.post("/invocations", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    message = answer.json()["message"]
    assert words in message
    assert "\n" not in message
    assert "Traceback" not in answer.text


def test_long_requests_unknown_paths_and_methods_are_refused(
    follower: Follower, clients: Callable[..., httpx.Client]
) -> None:
    client = clients(follower, most_bytes=100)
    assert client.post("/invocations", content=b" " * 101, headers=JSON).status_code == 413
    parts = (b" " * 50 for _ in range(3))  # a length that is not stated
    assert client.post("/invocations", content=parts, headers=JSON).status_code == 413
    assert "/invocations" in client.get("/nothing").json()["message"]
    assert client.get("/invocations").status_code == 405
    assert client.get("/docs").status_code == 404


def test_a_token_is_asked_for_everywhere_but_by_probes(
    follower: Follower, clients: Callable[..., httpx.Client]
) -> None:
    client = clients(follower, token="a" * 30)
    for path in ("/belief", "/history", "/metrics", "/chains", "/nothing", "/version"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"authorization": "Bearer " + "b" * 30}).status_code == 401
    assert client.get("/belief", headers={"authorization": "Bearer " + "a" * 30}).status_code == 200
    assert client.get("/ping").status_code == 200
    assert client.get("/healthz").status_code == 200


def test_a_server_beyond_loopback_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINDLEY_SERVE_TOKEN", raising=False)
    assert token_for("127.0.0.1") == ""
    with pytest.raises(ListeningRefused, match="LINDLEY_SERVE_TOKEN"):
        token_for("0.0.0.0")
    monkeypatch.setenv("LINDLEY_SERVE_TOKEN", "short")
    with pytest.raises(ListeningRefused, match="at least 20"):
        token_for("0.0.0.0")
    monkeypatch.setenv("LINDLEY_SERVE_TOKEN", "x" * 20)
    assert token_for("0.0.0.0") == "x" * 20
    with listening_socket("127.0.0.1", 0) as taken:
        # Else asyncio leaves TCP_NODELAY out: an answer waits 40 ms for an acknowledgement.
        assert taken.proto == socket.IPPROTO_TCP
        taken.listen()
        with pytest.raises(ListeningRefused, match="free port"):
            listening_socket("127.0.0.1", taken.getsockname()[1])


def test_pages_of_other_origins_and_foreign_names_are_refused(client: httpx.Client) -> None:
    for headers in ({"host": "evil.example"}, {"origin": "http://evil.example"}):
        assert client.get("/belief", headers=headers).status_code == 403
        assert client.post("/invocations", json=ROWS, headers=headers).status_code == 403


def test_belief_history_and_metrics_name_the_link(
    client: httpx.Client, ledger: fakes.MemoryLedger, coins: Declaration, follower: Follower
) -> None:
    fakes.append(ledger, coins, fakes.coins(coins, 10))
    follower.look()
    belief = client.get("/belief").json()
    record = find_link(ledger, "coins").view.record_digest
    assert belief["lindley"]["record"] == record
    assert [row["parameter"] for row in belief["parameters"]] == ["theta"]
    history = client.get("/history").json()
    assert [link["number"] for link in history["links"]] == [1, 2]
    assert history["lindley"]["record"] == record
    assert client.get("/ping").status_code == 200
    assert client.get("/version").text
    client.post("/invocations", json=ROWS)
    metrics = client.get("/metrics").text
    assert 'lindley_serve_requests_total{chain="coins",status="200"} 1.0' in metrics
    assert 'lindley_serve_link{chain="coins"} 2.0' in metrics
    assert 'lindley_serve_following{chain="coins"} 1.0' in metrics


def test_several_chains_have_paths_of_their_own(
    tmp_path: Path, ledger: fakes.MemoryLedger, clients: Callable[..., httpx.Client]
) -> None:
    other = fakes.declare(tmp_path, "other_coins")
    fakes.append(ledger, other, fakes.coins(other, 0))
    fakes.append(ledger, other, fakes.coins(other, 10))
    client = clients(*(Follower(ledger, each) for each in resolved(ledger, ["coins", "other_coins@1"])))
    for name in ("coins", "other_coins"):
        answer = client.post(f"/chains/{name}/invocations", json=ROWS)
        assert answer.json()["lindley"]["chain"] == name
        assert answer.json()["lindley"]["link"] == 1
    assert "/chains/NAME/invocations" in client.post("/invocations", json=ROWS).json()["message"]
    assert client.get("/chains/none/belief").status_code == 404
    assert [each["chain"] for each in client.get("/chains").json()["chains"]] == ["coins", "other_coins"]
    with pytest.raises(LindleyError, match="named twice"):
        resolved(ledger, ["coins", "coins@1"])


def test_a_head_that_fails_its_checks_does_not_answer(
    client: httpx.Client, ledger: fakes.MemoryLedger, coins: Declaration, follower: Follower,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    said: list[str] = []
    follower.notify = said.append
    fakes.append(ledger, coins, fakes.coins(coins, 10))
    ledger.flip("coins", 2, "belief/draws.nc")
    for _ in range(3):
        follower.look()
    assert len(said) == 1
    assert "link 1 goes on answering" in said[0]
    assert client.post("/invocations", json=ROWS).json()["predictions"] == alone(ledger, 1)
    health = client.get("/healthz").json()
    assert health["status"] == "behind"
    assert "sha256" in health["chains"]["coins"]["why"]
    assert 'lindley_serve_following{chain="coins"} 0.0' in client.get("/metrics").text
    ledger.flip("coins", 2, "belief/draws.nc")  # restored
    monkeypatch.setattr(following, "AGAIN_SECONDS", 0.0)
    follower.look()
    assert client.get("/healthz").json()["status"] == "ok"
    assert follower.snapshot.link.view.number == 2
    del ledger.models["coins"].versions[2]  # the store was put back
    follower.look()
    assert "rewritten" in client.get("/healthz").json()["chains"]["coins"]["why"]
    assert follower.snapshot.link.view.number == 2


def test_a_registry_that_does_not_answer_stops_nothing(
    client: httpx.Client, ledger: fakes.MemoryLedger, follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailable("It is down")

    with monkeypatch.context() as broken:
        broken.setattr(ledger, "versions", down)
        follower.look()
        assert client.get("/healthz").json()["chains"]["coins"]["why"].startswith("It is down")
        assert client.post("/invocations", json=ROWS).status_code == 200
    follower.look()
    assert client.get("/healthz").json()["status"] == "ok"


def test_answers_under_load_are_those_of_one_link_each_while_the_head_moves(
    ledger: fakes.MemoryLedger, coins: Declaration, follower: Follower, client: httpx.Client,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(following, "LOOK_SECONDS", 0.01)
    stop = threading.Event()
    bodies = [{"dataframe_records": [{"n": 10 ** (1 + i % 3)} for i in range(size)]} for size in (1, 2, 7)]
    thread = threading.Thread(target=follower.follow, args=(stop,))
    thread.start()
    answers: list[tuple[int, int, Any]] = []

    def ask(worker: int) -> None:
        number = worker
        while not stop.is_set():
            number += 1
            answer = client.post("/invocations", json=bodies[number % 3])
            assert answer.status_code == 200, answer.text
            held = answer.json()
            answers.append((held["lindley"]["link"], number % 3, held["predictions"]))

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask, worker) for worker in range(4)]
        for move in range(1, 6):
            fakes.append(ledger, coins, fakes.coins(coins, 10 * move, k=move))
            end = time.monotonic() + 30
            while follower.snapshot.link.view.number != move + 1 and time.monotonic() < end:
                time.sleep(0.01)
            assert follower.snapshot.link.view.number == move + 1
        stop.set()
        for each in asking:
            each.result()
    thread.join()
    assert {link for link, _, _ in answers} >= {2, 3, 4, 5}
    expected = {(link, at): alone(ledger, link, bodies[at]) for link in range(1, 7) for at in range(3)}
    for link, at, found in answers:
        assert found == expected[link, at]
