"""The environment that Prefect reads when it is imported: set here, so imported before it.

Nothing here imports Prefect or MLflow. A variable that the user set always wins.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from flows import running
from lindley.errors import LindleyError
from lindley.workspace import Workspace

#: Never phone home, never advertise; a loaded machine needs long to start a server.
ALWAYS = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_CLI_PROMPT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
}
#: A batch does not wait 10 seconds for a worker, and a run whose process is gone is noticed.
WORKER = {"PREFECT_WORKER_QUERY_SECONDS": "2", "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}


class EnvironmentRefused(LindleyError):
    """The process or the worker does not have the environment that Lindley needs."""


def prepare(workspace: Workspace, *, quiet: bool = False, worker: bool = False) -> Workspace:
    """Set the environment of this process for Prefect and MLflow; return the workspace to use.

    With servers that ``lindley up`` or ``lindley ui`` runs in this working folder, their addresses are
    used. Without, Prefect runs an ephemeral server on the database in ``.prefect/`` and MLflow's
    database is opened directly. ``PREFECT_API_URL``, ``PREFECT_HOME`` and ``MLFLOW_TRACKING_URI``
    override both.

    Parameters
    ----------
    workspace
        The workspace as the environment gives it.
    quiet
        Keep the messages of Prefect and MLflow off the terminal, which gets the result; the Prefect UI
        has them all.
    worker
        The process is a worker.

    Raises
    ------
    EnvironmentRefused
        If Prefect was imported already: it would not see what is set here.
    """
    if "prefect" in sys.modules:
        raise EnvironmentRefused(
            "Prefect was imported before its environment was prepared",
            expected="flows.environment.prepare to run first",
            found="prefect among the imported modules",
            todo="import the flows after the environment was prepared",
        )
    for name, value in (variables(workspace) | (WORKER if worker else {})).items():
        os.environ.setdefault(name, value)
    servers = running.addresses(workspace)
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
    return result


def enter_workspace() -> dict[str, str]:
    """Go to the working folder: the pull step of the deployments.

    A deployment holds no path, so that the same one serves workers on any machine: each worker names
    its working folder in ``LINDLEY_HOME``.

    Raises
    ------
    EnvironmentRefused
        If the worker was started without it, or there is no such folder.
    """
    home = os.environ.get("LINDLEY_HOME", "")
    if not home or not Path(home).is_dir():
        raise EnvironmentRefused(
            "The worker does not say where its working folder is",
            expected="LINDLEY_HOME: the folder with models/ and data/",
            found=f"LINDLEY_HOME={home!r}",
            todo="start the worker with LINDLEY_HOME set, e.g. from `lindley up`",
        )
    os.chdir(home)
    return {"directory": home}
