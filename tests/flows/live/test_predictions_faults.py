"""A server of predictions where things go wrong: heads that cannot be loaded, stops and starts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pandas as pd
import pytest

from flows.live import following, predictions
from flows.live.following import Follower
from flows.live.listening import listening_socket, server
from flows.live.predictions import Predictions
from lindley.errors import LedgerUnavailable
from lindley.ledger.history import find_link
from lindley.model.declaration import Declaration
from tests.support import fakes
from tests.support.live import ROWS, running


def alone(ledger: fakes.MemoryLedger, link: int) -> Any:
    found = find_link(ledger, f"coins@{link}").predict(pd.DataFrame(ROWS["dataframe_records"]))
    return json.loads(json.dumps(found.to_dict("records")))


def lost(ledger: fakes.MemoryLedger, path: str) -> Callable[[], object]:
    """Take a file of link 2 away; return what puts it back."""
    files = ledger.run_of("coins", 2).files
    data = files.pop(path)
    return lambda: files.update({path: data})


def cut(ledger: fakes.MemoryLedger, path: str) -> Callable[[], object]:
    """Leave half of a file of link 2; return what puts it back."""
    files = ledger.run_of("coins", 2).files
    data = files[path]
    files[path] = data[: len(data) // 2]
    return lambda: files.update({path: data})


def down(ledger: fakes.MemoryLedger, _: str) -> Callable[[], object]:
    """Let the store of the files answer nothing, while the registry does; return what puts it back."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise LedgerUnavailable("The store is down")

    ledger.download = refuse  # type: ignore[method-assign]
    return lambda: ledger.__dict__.pop("download")


@pytest.mark.parametrize(
    ("break_it", "path", "why"),
    [
        (lost, "record.json", "record"),
        (lost, "belief/draws.nc", "draws.nc"),
        (cut, "belief/draws.nc", "draws.nc"),
        (cut, "record.json", "record"),
        (down, "", "The store is down"),
    ],
)
def test_a_head_that_cannot_be_loaded_leaves_the_last_good_one(
    break_it: Callable[[fakes.MemoryLedger, str], Callable[[], object]], path: str, why: str,
    ledger: fakes.MemoryLedger, coins: Declaration, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(following, "AGAIN_SECONDS", 0.0)
    follower = Follower(ledger, "coins")
    expected = alone(ledger, 1)
    fakes.append(ledger, coins, fakes.coins(coins, 10))
    put_back = break_it(ledger, path)
    with running(Predictions({"coins": follower}).app) as client:
        for _ in range(2):
            follower.look()
            answer = client.post("/invocations", json=ROWS)
            assert answer.status_code == 200
            assert answer.json()["lindley"]["link"] == 1
            assert answer.json()["predictions"] == expected
            health = client.get("/healthz").json()
            assert health["status"] == "behind"
            assert why in health["chains"]["coins"]["why"]
            metrics = client.get("/metrics").text
            assert 'lindley_serve_following{chain="coins"} 0.0' in metrics
            assert 'lindley_serve_head_moves{chain="coins"} 0.0' in metrics
        put_back()
        follower.look()
        assert client.get("/healthz").json()["status"] == "ok"
        assert client.post("/invocations", json=ROWS).json()["predictions"] == alone(ledger, 2)


def test_a_server_that_is_stopped_answers_what_it_was_asked_and_another_takes_its_port(
    ledger: fakes.MemoryLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower, asked = Follower(ledger, "coins"), threading.Event()
    predicted = predictions._predicted

    def slow(*given: Any) -> bytes:
        asked.set()
        time.sleep(0.5)
        return predicted(*given)

    monkeypatch.setattr(predictions, "_predicted", slow)
    port, answers = 0, []
    for _ in range(2):  # the second time after a restart, on the same port
        asked.clear()
        with listening_socket("127.0.0.1", port) as bound:
            port = bound.getsockname()[1]
            made = server(Predictions({"coins": follower}).app, bound)
            serving = threading.Thread(target=made.run, kwargs={"sockets": [bound]})
            serving.start()
            address = f"http://127.0.0.1:{port}/invocations"
            asking = threading.Thread(
                target=lambda to: answers.append(httpx.post(to, json=ROWS, timeout=60, trust_env=False)),
                args=(address,),
            )
            asking.start()
            assert asked.wait(30)
            made.should_exit = True  # as on SIGTERM
            asking.join()
            serving.join()
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"http://127.0.0.1:{port}/ping", trust_env=False)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["predictions"] == alone(ledger, 1)


def test_rows_of_any_size_and_order_are_answered_as_the_registered_belief_answers(
    ledger: fakes.MemoryLedger,
) -> None:
    rows = [{"n": 1000, "id": 7}, {"n": 1, "id": 2}, {"n": 100, "id": 2}]
    with running(Predictions({"coins": Follower(ledger, "coins")}).app) as client:
        answer = client.post("/invocations", json={"instances": rows, "params": {"seed": 9}}).json()
    found = find_link(ledger, "coins").predict(pd.DataFrame(rows), seed=9)
    assert answer["predictions"] == json.loads(json.dumps(found.to_dict("records")))
