"""What a run changes in its process is restored, or reported."""

from __future__ import annotations

import logging
import os
import random
import signal
import sys
from pathlib import Path

import matplotlib as mpl
import mlflow
import numpy as np
import pytensor
import pytest

from flows.server.process_state import Before


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Before:
    monkeypatch.setenv("LINDLEY_TEST", "as it was")
    return Before()


def test_environment_folder_path_and_logs_are_restored(before, tmp_path: Path):
    folder, path = Path.cwd(), list(sys.path)
    logger = logging.getLogger("lindley.test")
    os.environ["LINDLEY_TEST"] = "changed"
    os.environ["LINDLEY_OTHER"] = "new"
    os.chdir(tmp_path)
    sys.path.insert(0, str(tmp_path))
    handlers = list(logging.root.handlers)
    logging.root.addHandler(logging.NullHandler())
    before.restore()
    assert os.environ["LINDLEY_TEST"] == "as it was"
    assert "LINDLEY_OTHER" not in os.environ
    assert Path.cwd() == folder
    assert sys.path == path
    assert logging.root.handlers == handlers
    assert logger.handlers == []
    assert before.changed() == []


def test_a_seed_of_one_run_does_not_reach_the_next(before):
    drawn = []
    for _ in range(2):
        np.random.seed(1)  # noqa: NPY002
        random.seed(1)
        before.restore()
        drawn.append((np.random.random(), random.random()))  # noqa: NPY002
    assert drawn[0][0] != drawn[1][0]
    assert drawn[0][1] != drawn[1][1]


def test_a_setting_that_stays_changed_is_reported(before, monkeypatch):
    monkeypatch.setattr(pytensor.config, "floatX", "float32")
    assert before.changed() == ["pytensor.config"]


def test_plot_settings_count(before, monkeypatch):
    monkeypatch.setitem(mpl.rcParams, "lines.linewidth", 7.0)
    assert before.changed() == ["matplotlib.rcParams"]


def test_error_settings_of_arrays_count(before):
    with np.errstate(all="raise"):
        assert before.changed() == ["numpy.errstate"]


def test_a_signal_handler_counts(before):
    old = signal.signal(signal.SIGALRM, lambda *_: None)
    assert before.changed() == ["signal handlers"]
    signal.signal(signal.SIGALRM, old)
    assert before.changed() == []


def test_another_tracking_server_counts(before, tmp_path):
    was = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path / 'other.db'}")
    try:
        before.restore()
        assert before.changed() == ["MLflow's server, registry or active run"]
    finally:
        mlflow.set_tracking_uri(was)
