"""Races, kills and a real sampler on real servers, minutes each: `pytest -m faults`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import lindley
from lindley.ledger.history import history
from lindley.ledger.mlflow.store import MlflowLedger
from lindley.verification.gather import verify_chain
from tests.faults import kills, races
from tests.faults.run import Ground, postgres
from tests.support.oracles import beta_binomial

pytestmark = [pytest.mark.faults, pytest.mark.e2e]
ROOT = Path(lindley.__file__).parents[1]
#: Standard errors of a mean from correlated draws: beyond it by chance once in 15,000.
MOST_ERRORS = 4.0
#: The command line, whose updates do not wait for each other.
WITHOUT_TURNS = """
import contextlib, flows.cli.__main__, flows.sequences.files
flows.sequences.files.turn = lambda *_: contextlib.nullcontext(True)
flows.cli.__main__.main()
"""


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    with postgres(tmp_path_factory.mktemp("faults")) as found:
        yield found


def test_writers_that_race_on_a_server_make_one_line(ground: Ground) -> None:
    row, said = races.race(replace(ground.place, chain="race"), "postgres-s3", writers=4, each=2)
    assert row.ok, said


@pytest.mark.parametrize("name", ["uploading", "versioned"])
def test_a_server_that_is_killed_loses_and_doubles_nothing(ground: Ground, name: str) -> None:
    assert ground.server is not None
    row, said = kills.kill_server(replace(ground.place, chain=f"server-{name}"), ground.server, name)
    assert row.ok, said


def test_two_writers_that_sample_make_one_line(tmp_path: Path) -> None:
    """The genuine command, twice at once, but for the turn that one would wait for."""
    rng = np.random.default_rng(11)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    frame = pd.DataFrame({"id": np.arange(20), "k": rng.binomial(12, 0.4, 20), "n": 12})
    MlflowLedger(uri, tmp_path)
    command = [sys.executable, "-c", WITHOUT_TURNS, "update", "beta_binomial"]
    environment = os.environ | {
        "LINDLEY_HOME": str(tmp_path), "LINDLEY_MODELS": str(ROOT / "models"), "MLFLOW_TRACKING_URI": uri,
        "PYTHONPATH": str(ROOT),
    }  # fmt: skip
    running = []
    for number in range(2):
        path = tmp_path / f"batch-{number}.csv"
        frame.iloc[10 * number : 10 * number + 10].to_csv(path, index=False)
        running.append(subprocess.Popen([*command, str(path), "--direct"], env=environment, cwd=tmp_path))
    assert [process.wait(600) for process in running] == [0, 0]
    ledger = MlflowLedger(uri, tmp_path)
    assert len(history(ledger, "beta_binomial")) == 2
    assert verify_chain(ledger, "beta_binomial").ok
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", uri)
        environment.setenv("LINDLEY_HOME", str(tmp_path))
        theta = lindley.load("beta_binomial@head").summary().loc["theta"]
    exact = beta_binomial(frame["k"].to_numpy(), frame["n"].to_numpy())
    assert theta["ess_bulk"] > 400
    # Two fits, each with its own Monte Carlo error; the first one's counts by its share of the precision.
    error = exact.std() * np.sqrt(1.5 / theta["ess_bulk"])
    assert abs(theta["mean"] - exact.mean()) < MOST_ERRORS * error
