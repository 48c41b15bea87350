"""A dropped file becomes the head; after a stop and a start the sweep takes the files that were missed.

Lindley is installed from its wheel, outside the clone. The working folder, made by `lindley init`, also has
packages of a user's own with the names of Lindley's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.e2e.machine import ROOT, Machine, ask, until
from tests.support import wheels

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("installed")
    lindley = wheels.install(wheels.build(folder), folder / "environment")
    made = Machine(folder / "mine", (str(lindley),))
    made.root.mkdir()
    wheels.own_packages(made.root)
    assert "models/daily_sales.py" in str(made.lindley("init", "."))
    (made.root / "models" / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    shutil.copy(ROOT / "models" / "beta_binomial.py", made.root / "models")
    yield made
    if made.process is not None:
        made.down()


@pytest.fixture(scope="module")
def running(machine: Machine) -> Machine:
    machine.up()
    return machine


def test_a_dropped_file_starts_a_run_by_its_event_and_becomes_head(running: Machine):
    running.drop("first.csv", 1)
    until("a head", lambda: running.head() == 1)
    (run,) = until("a completed run", lambda: [r for r in running.flow_runs("update") if r["end_time"]])
    assert run["name"] == "beta_binomial <- first.csv", running.logs()
    assert run["state_type"] == "COMPLETED"
    assert run["created_by"]["type"] == "AUTOMATION"
    store = running.root / "data" / "store" / "beta_binomial"
    assert len(list(store.iterdir())) == 1
    assert not list((running.root / "data" / "landing" / "beta_binomial").iterdir())


def test_the_run_and_the_version_link_to_each_other(running: Machine):
    (run,) = running.flow_runs("update")
    url = f"{running.addresses['mlflow']}/api/2.0/mlflow/model-versions/get?name=beta_binomial&version=1"
    version = ask(url)["model_version"]
    mlflow_run = ask(f"{running.addresses['mlflow']}/api/2.0/mlflow/runs/get?run_id={version['run_id']}")
    tags = {tag["key"]: tag["value"] for tag in mlflow_run["run"]["data"]["tags"]}
    assert tags["lindley.flow_run"] == run["id"]
    assert tags["lindley.flow_run_url"] == f"{running.addresses['prefect']}/runs/flow-run/{run['id']}"


def test_a_command_in_another_terminal_finds_the_servers(running: Machine):
    log = running.lindley("log", "beta_binomial")
    assert [link["number"] for link in log["links"]] == [1]
    report = running.lindley("verify", "beta_binomial")
    assert report["ok"], report["findings"]


def test_an_invalid_file_is_rejected_by_the_run_that_its_event_starts(running: Machine):
    folder = running.root / "data" / "landing" / "beta_binomial"
    (folder / "bad.csv").write_text("id,k,n\n1,3,ten\n")
    reason = running.root / "data" / "rejected" / "beta_binomial" / "bad.csv.reason.json"
    until("a rejection", reason.exists)
    (run,) = until(
        "a failed run", lambda: [r for r in running.flow_runs("update") if r["state_type"] == "FAILED"]
    )
    assert "Found: 'ten' in row 1" in run["state"]["message"]
    assert running.head() == 1


def test_everything_stops_and_leaves_no_process(running: Machine):
    assert running.down() == 0
    assert running.alive() == []
    assert not (running.root / ".lindley" / "up.json").exists()


def test_a_file_dropped_while_all_was_down_is_taken_by_the_sweep_on_its_cron(machine: Machine):
    machine.drop("second.csv", 6)
    machine.up("--no-watch", cron="* * * * *")
    until("a second head", lambda: machine.head() == 2)
    swept = until(
        "a sweep that took it",
        lambda: [
            run
            for run in machine.flow_runs("sweep")
            if run["state_type"] == "COMPLETED" and run["state"]["message"] == "1 accepted"
        ],
    )
    assert swept[0]["created_by"]["type"] == "SCHEDULE" or swept[0]["auto_scheduled"]
    assert machine.down() == 0
    assert machine.alive() == []


def test_without_servers_the_chain_is_the_same(machine: Machine):
    log = machine.lindley("log", "beta_binomial")
    assert [(link["number"], link["origin"]) for link in log["links"]] == [
        (2, "second.csv"),
        (1, "first.csv"),
    ]
    report = machine.lindley("verify")
    assert report["ok"], report
