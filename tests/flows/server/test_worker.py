"""Which flow runs the warm worker carries out, and which it refuses."""

from __future__ import annotations

import importlib
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker

from flows.server import up
from flows.server.warm_process import FLOWS
from flows.server.worker import ENGINE, WarmWorker, foreign, installed_code

ENVIRONMENT = {"PATH": "/bin", "LINDLEY_HOME": "/work"}


def job(env: dict[str, str] | None = None, **how: Any) -> ProcessJobConfiguration:
    variables = ENVIRONMENT | {"PREFECT__FLOW_RUN_ID": "1", "PREFECT__DEPLOYMENT_NAME": "x"} | (env or {})
    return ProcessJobConfiguration(env=variables, **({"command": ENGINE} | how))


def deployment(**other: Any) -> Any:
    ours = {"entrypoint": "flows.update.update", "pull_steps": [{"flows.environment.enter_workspace": {}}]}
    return SimpleNamespace(**(ours | other))


def run(**variables: Any) -> Any:
    return SimpleNamespace(id="1", job_variables=variables, parameters={})


def test_a_run_of_lindleys_flows_with_the_usual_job_is_none_of_anyone_elses():
    assert foreign(run(), deployment(), job(), ENVIRONMENT) == ""


@pytest.mark.parametrize(
    ("what", "how", "why"),
    [
        ({"entrypoint": "mine.flow"}, {}, "mine.flow is none of Lindley's flows"),
        ({"entrypoint": "flows/update.py:update"}, {}, "flows/update.py:update is none of Lindley's flows"),
        ({"entrypoint": None}, {}, "its deployment is none of Lindley's flows"),
        ({"entrypoint": "flows.server.up.stack"}, {}, "flows.server.up.stack is none of Lindley's flows"),
        ({"pull_steps": [{"prefect.deployments.steps.git_clone": {}}]}, {}, "other pull steps"),
        ({"pull_steps": None}, {}, "other pull steps"),
        ({}, {"command": "python mine.py"}, "its job has a command"),
        ({}, {"stream_output": False}, "does not show its output"),
        ({}, {"env": {"OMP_NUM_THREADS": "1", "PATH": "secret"}}, "differs in OMP_NUM_THREADS, PATH"),
    ],
)
def test_any_other_run_is_foreign(what, how, why):
    found = foreign(run(), deployment(**what), job(**how), ENVIRONMENT)
    assert why in found
    assert "secret" not in found


def test_job_variables_and_the_lack_of_a_deployment_are_foreign():
    found = foreign(run(name="x", image="secret"), deployment(), job(), ENVIRONMENT)
    assert found == "it has job variables: image, name"
    assert foreign(run(), None, job(), ENVIRONMENT) == "it has no deployment"


def test_a_missing_variable_counts_as_a_difference():
    found = foreign(run(), deployment(), job(), ENVIRONMENT | {"A": "1"})
    assert found == "its environment differs in A"


def test_prefects_own_worker_stays_registered():
    assert ProcessWorker.get_worker_class_from_type("process") is ProcessWorker
    assert WarmWorker.type == "process"


def test_the_deployed_flows_have_no_hooks_and_are_imported_beforehand():
    document = yaml.safe_load((up.Path(up.__file__).parents[2] / "prefect.yaml").read_text())
    for entrypoint in (item["entrypoint"] for item in document["deployments"]):
        module, name = entrypoint.rsplit(".", 1)
        assert module in FLOWS
        flow = getattr(importlib.import_module(module), name)
        assert not flow.on_crashed_hooks
        assert not flow.on_cancellation_hooks


def test_installed_code_has_a_time():
    assert installed_code() > 0
