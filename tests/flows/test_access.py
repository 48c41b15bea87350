"""The password of a working folder's Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from flows import access, environment, running
from flows.access import CLIENT_VARIABLE, SERVER_VARIABLE, PasswordRefused
from flows.server.deploy import automation, pool_template
from flows.server.up import Options, Stack, _allowed_hosts
from flows.states import STATE_NAMES


@pytest.fixture(autouse=True)
def clean(monkeypatch):
    for name in (CLIENT_VARIABLE, SERVER_VARIABLE, "PREFECT_API_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def test_it_is_random_made_once_and_for_the_owner_only(workspace, tmp_path_factory):
    with ThreadPoolExecutor(8) as threads:
        found = set(threads.map(lambda _: access.auth_string(workspace), range(16)))
    assert len(found) == 1
    (password,) = found
    assert len(password) > 40
    assert access.password_file(workspace).stat().st_mode & 0o777 == 0o600
    access.password_file(workspace).unlink()
    assert access.auth_string(workspace) != password


def test_one_that_others_can_read_is_refused(workspace):
    access.auth_string(workspace)
    access.password_file(workspace).chmod(0o644)
    with pytest.raises(PasswordRefused, match="other users can read it"):
        access.auth_string(workspace)


@pytest.mark.parametrize("text", ["", "lindley:", "lindley:short\n", "\xff" * 60])
def test_an_empty_one_is_refused(workspace, text):
    access.auth_string(workspace)
    access.password_file(workspace).write_text(text, encoding="latin-1")
    with pytest.raises(PasswordRefused, match="no password in it"):
        access.auth_string(workspace)


def test_one_of_the_users_own_wins(workspace, monkeypatch):
    monkeypatch.setenv(CLIENT_VARIABLE, "me:mine")
    assert set(access.variables(workspace).values()) == {"me:mine"}
    assert not access.password_file(workspace).exists()


PREPARE = """
import json, os, sys
from flows import environment
from lindley.workspace import Workspace
environment.prepare(Workspace.from_environment(), prefect=sys.argv[1] == "prefect")
print(json.dumps({name: value for name, value in os.environ.items() if name.startswith("PREFECT")}))
"""


def prepared(workspace, what: str = "prefect", **variables: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PREPARE, what],
        env=os.environ | {"LINDLEY_HOME": str(workspace.root)} | variables,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_the_embedded_server_has_it_too_and_allows_no_foreign_origin(workspace):
    found = prepared(workspace)
    assert found[CLIENT_VARIABLE] == found[SERVER_VARIABLE] == access.auth_string(workspace)
    assert found["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1"


def test_a_command_without_prefect_makes_no_file(workspace):
    assert CLIENT_VARIABLE not in prepared(workspace, "none")
    assert not (workspace.root / ".lindley").exists()


def test_a_server_elsewhere_does_not_get_it(workspace):
    assert CLIENT_VARIABLE not in prepared(workspace, PREFECT_API_URL="https://prefect.example/api")
    assert not access.password_file(workspace).exists()


@pytest.mark.parametrize("ours", [True, False])
def test_only_servers_of_lindleys_own_get_it(workspace, monkeypatch, ours):
    running.remember(workspace, running.Servers("http://127.0.0.1:1", "http://127.0.0.1:2/api", ours=ours))
    monkeypatch.setattr(
        running, "_get", lambda url: "OK" if url.startswith("http://127.0.0.1:1/") else "true"
    )
    monkeypatch.setattr(sys, "modules", {name: m for name, m in sys.modules.items() if name != "prefect"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", dict(os.environ))
        environment.prepare(workspace)
        assert (CLIENT_VARIABLE in os.environ) is ours
    assert access.password_file(workspace).exists() is ours
    assert "password" not in running.state_file(workspace).read_text()


def test_children_of_up_get_it_unless_the_server_is_elsewhere(workspace, monkeypatch):
    stop = object()
    made = Stack(workspace, Options(mlflow_port=0, prefect_port=0, pages_port=0), print, stop)  # type: ignore[arg-type]
    assert made._environment()[CLIENT_VARIABLE] == access.auth_string(workspace)
    monkeypatch.setenv("PREFECT_API_URL", "https://prefect.example/api")
    made = Stack(workspace, Options(mlflow_port=0, prefect_port=0, pages_port=0), print, stop)  # type: ignore[arg-type]
    assert CLIENT_VARIABLE not in made._environment()


def test_mlflow_answers_under_names_of_this_machine_only(monkeypatch):
    from mlflow.server.security_utils import is_allowed_host_header

    monkeypatch.delenv("MLFLOW_SERVER_ALLOWED_HOSTS", raising=False)
    monkeypatch.setenv("LINDLEY_ALLOWED_HOSTS", "Beliefs.example, ")
    hosts = _allowed_hosts()[1].split(",")
    for good in (
        "localhost",
        "127.0.0.1:5000",
        "[::1]:5000",
        "[::1]",
        "localhost:8000",
        "beliefs.example:80",
    ):
        assert is_allowed_host_header(hosts, good), good
    for bad in (
        "10.evil.example",
        "192.168.evil.example:5000",
        "evil.example",
        "0.0.0.0",
        "localhost.evil.example",
    ):
        assert not is_allowed_host_header(hosts, bad), bad


def test_the_pool_takes_no_command_and_no_environment():
    template = pool_template(foreign_runs=False)
    assert template is not None
    assert set(template["job_configuration"]) == {"name"}
    assert template["variables"]["additionalProperties"] is False
    assert pool_template(foreign_runs=True) is None


def test_runs_without_heartbeat_are_marked_in_one_pool_only():
    made = automation("mine")
    pool, deployment = (one.root for one in made.trigger.match_related)
    assert pool == {"prefect.resource.role": "work-pool", "prefect.resource.name": "mine"}
    # A run that asks a person has no process while it waits.
    assert deployment == {"prefect.resource.role": "deployment", "prefect.resource.name": "!decide"}
    assert made.actions[0].state.value == "CRASHED"
    # Events carry the name of a state: a run that ended as Unchanged is not to be marked as crashed.
    for name in {*STATE_NAMES.values(), "Failed", "Cancelled", "Crashed", "Verified"}:
        assert f"prefect.flow-run.{name}" in made.trigger.expect
    assert made.actions[0].force is False
