"""The pieces of the tasks that need no server."""

from __future__ import annotations

import inspect
import logging
import re
from types import SimpleNamespace
from uuid import uuid4

import pytest
from prefect.client.schemas.objects import State
from prefect.settings import PREFECT_UI_URL, temporary_settings
from prefect.states import Completed, Failed

from lindley.errors import BatchRefused, LedgerUnavailable, LostRace
from tasks import batch, link, options, progress, publish
from tasks.options import artifact_key
from tasks.progress import ArtifactProgress


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (Failed(data=LedgerUnavailable("It is down")), True),
        (Failed(data=LostRace("Another was first")), False),
        (Failed(data=BatchRefused("It is no batch")), False),
        (Failed(data=ValueError("a bug")), False),
        (Failed(), False),
        (Completed(), False),
    ],
)
def test_only_what_passes_by_itself_is_tried_again(state: State, again: bool):
    assert options.may_retry(link.fit, None, state) is again


def test_prefect_calls_the_condition_only_when_it_is_a_function():
    assert inspect.isfunction(options.may_retry)


@pytest.mark.parametrize(
    ("chain", "key"),
    [("covid-sir", "covid-sir-x"), ("covid_sir", "covid-sir-x"), ("a__b-_c_", "a-b-c-x"), ("c3", "c3-x")],
)
def test_keys_are_what_prefect_admits(chain, key):
    assert artifact_key(chain, "x") == key
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", artifact_key(chain, "prior_posterior"))


def test_the_page_of_a_flow_run_is_named_without_a_password(monkeypatch):
    monkeypatch.setattr(options, "flow_run", SimpleNamespace(id="f-1"))
    with temporary_settings({PREFECT_UI_URL: "https://alice:hunter2@prefect.example"}):
        assert options.flow_run_url() == "https://prefect.example/runs/flow-run/f-1"


def test_tasks_are_thin():
    made = (batch.read_batch, link.plan, link.fit, link.log_link, link.register_link)
    for task in (*made, publish.publish):
        body = inspect.getsource(task.fn).split('"""')[2].strip().splitlines()
        assert len(body) <= 15, task.name


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def updates(monkeypatch) -> list[float]:
    seen: list[float] = []
    monkeypatch.setattr(progress, "get_run_logger", lambda: logging.getLogger("test"))
    monkeypatch.setattr(progress, "create_progress_artifact", lambda *_, **__: uuid4())
    monkeypatch.setattr(progress, "update_progress_artifact", lambda _, percent: seen.append(percent))
    return seen


def test_progress_is_updated_once_a_second_and_at_the_end(updates):
    clock = Clock()
    bar = ArtifactProgress("key", "text", clock)
    for done in range(0, 1001, 10):
        bar(done, 1000)
        clock.now += 0.05
    bar.finish()
    assert updates == sorted(updates)
    assert updates[-1] == 100.0
    assert 5 <= len(updates) <= 8


def test_a_fit_that_stops_early_ends_at_the_full_bar(updates):
    bar = ArtifactProgress("key", "text", Clock())
    bar(300, 1000)
    bar.finish()
    bar.finish()
    assert updates == [30.0, 100.0]


def test_a_server_that_takes_no_update_stops_the_bar_not_the_fit(monkeypatch, updates, caplog):
    calls = []

    def fails(*_):
        calls.append(1)
        raise RuntimeError("no server")

    monkeypatch.setattr(progress, "update_progress_artifact", fails)
    clock = Clock()
    bar = ArtifactProgress("key", "text", clock)
    for done in (100, 500, 1000):
        bar(done, 1000)
        clock.now += 2
    bar.finish()
    assert len(calls) == 1
    assert "no server" in caplog.text


def test_a_watcher_hears_every_step(updates):
    seen = []
    with progress.watched(lambda done, total: seen.append(done)):
        bar = ArtifactProgress("key", "text", Clock())
        for done in (1, 2, 3):
            bar(done, 1000)
    assert seen == [1, 2, 3]
    ArtifactProgress("key", "text", Clock())(4, 1000)
    assert seen == [1, 2, 3]
