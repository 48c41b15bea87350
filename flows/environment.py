"""Set the environment that Prefect reads when it is imported; import this module first.

Nothing here imports Prefect or MLflow. A variable that the user set always wins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flows import access, running
from flows.monitoring import json_logs
from lindley.errors import LindleyError
from lindley.workspace import Workspace

#: No telemetry, no advertisements; on a loaded machine a server takes long to start.
ALWAYS = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
}
#: A server of Lindley's own: pages of other origins may not use it, and its own pages ask it, whatever it is
#: called.
OWN_SERVER = {
    "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": "http://127.0.0.1",
    "PREFECT_SERVER_UI_API_URL": "/api",
}
#: Workers poll every half second instead of every 10: a run waits half of that before it begins. They take
#: no run before its time, which would then wait in a place of theirs. Runs send heartbeats, so that dead runs
#: are detected.
WORKER = {
    "PREFECT_WORKER_QUERY_SECONDS": "0.5",
    "PREFECT_WORKER_PREFETCH_SECONDS": "0",
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
}


class EnvironmentRefused(LindleyError):
    """The process or the worker lacks the environment that Lindley needs."""


def prepare(
    workspace: Workspace, *, quiet: bool = False, worker: bool = False, prefect: bool = True
) -> Workspace:
    """Set the environment of this process for Prefect and MLflow; return the workspace to use.

    If ``lindley up`` or ``lindley ui`` runs servers for this working folder, this process uses their
    addresses. Otherwise Prefect runs an ephemeral server on the database in ``.prefect/`` and MLflow's
    database is opened directly. ``PREFECT_API_URL``, ``PREFECT_HOME`` and ``MLFLOW_TRACKING_URI``
    override both.

    Parameters
    ----------
    workspace
        The workspace as the environment gives it.
    quiet
        Keep the messages of Prefect and MLflow off the terminal, which shows the result; the Prefect UI
        shows all of them.
    worker
        The process is a worker.
    prefect
        The process will import Prefect. Without, no file is made.

    Raises
    ------
    EnvironmentRefused
        If Prefect was imported already: it would ignore these settings.
    """
    if "prefect" in sys.modules:
        raise EnvironmentRefused(
            "Prefect was imported before its environment was prepared",
            expected="flows.environment.prepare to run first",
            found="prefect among the imported modules",
            todo="import the flows after the environment was prepared",
        )
    servers = running.addresses(workspace)
    wanted = variables(workspace) | (WORKER if worker else {})
    if prefect and "PREFECT_API_URL" not in os.environ and (servers is None or servers.ours):
        wanted |= access.variables(workspace)
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    if servers is not None:
        os.environ.setdefault("MLFLOW_TRACKING_URI", servers.mlflow)
        os.environ.setdefault("PREFECT_API_URL", servers.prefect_api)
    if quiet:
        os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    return Workspace.from_environment(workspace.root)


def variables(workspace: Workspace) -> dict[str, str]:
    """Return the variables of a workspace that are the same with and without servers."""
    result = ALWAYS | {"LINDLEY_HOME": str(workspace.root)}
    # With a server elsewhere the user's own Prefect home holds the profile and key for it.
    if "PREFECT_API_URL" not in os.environ:
        result["PREFECT_HOME"] = str(workspace.root / ".prefect")
        result["PREFECT_SERVER_ALLOW_EPHEMERAL_MODE"] = "true"
        result |= OWN_SERVER
    return result | (json_logs.VARIABLES if json_logs.json_wanted() else {})


def enter_workspace() -> dict[str, str]:
    """Change to the working folder: the pull step of the deployments.

    A deployment contains no path, so that the same deployment serves workers on any machine: each worker
    names its working folder in ``LINDLEY_HOME``.

    Raises
    ------
    EnvironmentRefused
        If the worker was started without it, or there is no such folder.
    """
    home = os.environ.get("LINDLEY_HOME", "")
    if not home or not Path(home).is_dir():
        raise EnvironmentRefused(
            "The worker has no working folder",
            expected="LINDLEY_HOME: the folder with models/ and data/",
            found=f"LINDLEY_HOME={home!r}",
            todo="start the worker with LINDLEY_HOME set, e.g. from `lindley up`",
        )
    os.chdir(home)
    return {"directory": home}
