"""Tries on the warm worker: flow runs that bring code, an environment or files of their own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prefect.workers.process import ProcessJobConfiguration

from flows.server.worker import ENGINE, foreign, outside
from tests.faults.attacks.table import Surface

WORKER = Surface("flow runs of the worker", "worker")
_ENVIRONMENT = {"PATH": "/bin", "LINDLEY_HOME": "/work"}
_PULL_STEPS: list[dict[str, Any]] = [{"flows.environment.enter_workspace": {}}]


@dataclass
class Runs:
    """What the worker of a working folder says of a run."""

    root: Path

    def says(
        self,
        *,
        env: dict[str, str] | None = None,
        job: dict[str, Any] | None = None,
        deployment: dict[str, Any] | None = None,
        variables: dict[str, Any] | None = None,
        file: str = "a.csv",
    ) -> str:
        """Return whether a run with these things of its own is refused."""
        run: Any = SimpleNamespace(
            id="1", job_variables=variables or {}, parameters={"chain": "coins", "file": file}
        )
        ours = {"entrypoint": "flows.update.update", "pull_steps": _PULL_STEPS} | (deployment or {})
        made: Any = SimpleNamespace(**ours)
        variables_of = _ENVIRONMENT | {"PREFECT__FLOW_RUN_ID": "1", "PREFECT__WORKER_NAME": "w"} | (env or {})
        configuration = ProcessJobConfiguration(**({"command": ENGINE, "env": variables_of} | (job or {})))
        why = foreign(run, made, configuration, _ENVIRONMENT) or outside(run, self.root)
        return f"refused: {why}" if why else "harmless: it is carried out"


@WORKER.attempt("a run of Lindley's own", "harmless")
def own(ground: Runs) -> str:
    return ground.says()


_VARIABLES = {
    "another entrypoint (PREFECT__FLOW_ENTRYPOINT)": {"PREFECT__FLOW_ENTRYPOINT": "/tmp/evil.py:main"},
    "another folder of code (PREFECT__STORAGE_BASE_PATH)": {"PREFECT__STORAGE_BASE_PATH": "/tmp/evil"},
    "a server of its own (PREFECT__SERVER_EPHEMERAL)": {"PREFECT__SERVER_EPHEMERAL": "1"},
    "the id of another run": {"PREFECT__FLOW_RUN_ID": "2"},
    "hooks in the run (PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS)": {
        "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "true"
    },
    "a library to load (LD_PRELOAD)": {"LD_PRELOAD": "/tmp/evil.so"},
    "another PATH": {"PATH": "/tmp/evil"},
    "a PYTHONPATH": {"PYTHONPATH": "/tmp/evil"},
    "a start-up file (PYTHONSTARTUP)": {"PYTHONSTARTUP": "/tmp/evil.py"},
    "a folder of compiled code (PYTENSOR_FLAGS)": {"PYTENSOR_FLAGS": "base_compiledir=/tmp/evil"},
    "another API (PREFECT_API_URL)": {"PREFECT_API_URL": "http://evil.example/api"},
    "another tracking server": {"MLFLOW_TRACKING_URI": "http://evil.example"},
    "a proxy": {"HTTPS_PROXY": "http://evil.example"},
    "another signing key": {"LINDLEY_SIGNING_KEY": "/tmp/evil.pem"},
    "packages to install": {"PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES": "1"},
}


@WORKER.each("the environment of a job brings", _VARIABLES, "refused")
def environment(ground: Runs, env: dict[str, str]) -> str:
    return ground.says(env=env)


_DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "a file of code as entrypoint": {"entrypoint": "/tmp/evil.py:flows.update.update"},
    "another module as entrypoint": {"entrypoint": "os.system"},
    "a module below Lindley's as entrypoint": {"entrypoint": "flows.update.evil.update"},
    "a look-alike as entrypoint": {"entrypoint": "flows.upd\u0430te.update"},
    "a further pull step": {"pull_steps": [*_PULL_STEPS, {"prefect.deployments.steps.run_shell_script": {}}]},
    "a pull step with inputs": {"pull_steps": [{"flows.environment.enter_workspace": {"requires": "evil"}}]},
}


@WORKER.each("the deployment has", _DEPLOYMENTS, "refused")
def deployment(ground: Runs, given: dict[str, Any]) -> str:
    return ground.says(deployment=given)


_FILES = {
    "in another folder": "/etc/passwd",
    "in the folder of secrets": "ROOT/.lindley/prefect.password",
    "behind a way upwards": "../../../../etc/passwd",
    "behind a link in the landing folder": "link.csv",
    "behind a loop of links": "loop.csv",
    "with NUL in its name": "a\0b",
    "of the process": "/proc/self/environ",
}


@WORKER.each("the file of a run lies", _FILES, "refused")
def file(ground: Runs, given: str) -> str:
    landing = ground.root / "data" / "landing" / "coins"
    landing.mkdir(parents=True)
    (landing / "link.csv").symlink_to("/etc/passwd")
    (landing / "loop.csv").symlink_to("loop.csv")
    return ground.says(file=given.replace("ROOT", str(ground.root)))


@WORKER.attempt("a run with a command in its job variables", "refused")
def variables(ground: Runs) -> str:
    return ground.says(variables={"command": "touch pwned"})


@WORKER.attempt("a work pool whose template has a command", "refused")
def command(ground: Runs) -> str:
    return ground.says(job={"command": "touch pwned"})
