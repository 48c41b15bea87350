"""A belief behind `mlflow models serve`: clients at once get what each gets alone, bad inputs one line."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from lindley.batch.batch import batch_from_frame
from lindley.ledger.mlflow.packaging import save_belief
from lindley.ledger.netcdf import write_netcdf
from lindley.model.declaration import load_file
from lindley.serving.inputs import example_rows
from tests.e2e.machine import ROOT

pytestmark = pytest.mark.e2e
#: Seconds until a server has to answer.
PATIENCE = 300


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("served")
    (folder / "model.py").write_text((ROOT / "models" / "beta_binomial.py").read_text())
    declaration = load_file(folder / "model.py")
    draws = xr.Dataset({"theta": ("sample", np.random.default_rng(0).beta(40, 60, 1000))})
    write_netcdf(draws, folder / "draws.nc")
    batch = batch_from_frame(pd.DataFrame({"id": [1], "n": [10], "k": [1]}), declaration)
    save_belief(folder, declaration, folder / "draws.nc", example_rows(batch.table, declaration))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-P", "-m", "mlflow", "models", "serve", "-m", str(folder / "belief")]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    # MLflow starts `uvicorn` by name.
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            command, stdout=log, stderr=log, start_new_session=True, env=os.environ | path
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ping", server, folder / "log")
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        # The server of the requests is a child of this one, in its session.
        subprocess.run(["kill", "--", f"-{server.pid}"], check=False)
        server.wait(60)


def wait_for(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and server.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=10).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    pytest.fail(log.read_text()[-2000:])


def ask(address: str, body: dict[str, Any]) -> tuple[int, Any]:
    request = urllib.request.Request(address, json.dumps(body).encode(), {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            return answer.status, json.loads(answer.read())["predictions"]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def records(number: int) -> dict[str, Any]:
    """A request of 1 to 7 rows."""
    trials = [10 ** (1 + (number + row) % 4) for row in range(1 + number % 7)]
    return {"dataframe_records": [{"id": place, "n": n} for place, n in enumerate(trials)]}


def test_many_clients_at_once_get_the_answers_of_each_alone(address: str) -> None:
    bodies = [records(number) for number in range(28)]
    alone = [ask(address, body) for body in bodies]
    assert {status for status, _ in alone} == {200}
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda body: ask(address, body), bodies * 3)) == alone * 3


@pytest.mark.parametrize(
    ("n", "words"),
    [(10.5, "10.5 in row 1"), (-10, "n < 0"), (None, "Values are missing"), ("x", "'x' in row 1")],
)
def test_what_does_not_fit_is_a_400_in_one_line(address: str, n: Any, words: str) -> None:
    status, answer = ask(address, {"dataframe_records": [{"n": n}]})
    assert status == 400
    held = json.loads(answer)
    assert words in held["message"]
    assert "\n" not in held["message"]
    assert "Traceback" not in answer
    assert "stack_trace" not in held
