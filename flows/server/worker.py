"""A Prefect process worker that carries out flow runs in warm processes.

It serves pools of type ``process``, as Prefect's own worker does. A run of Lindley's flows goes to a warm
process (`flows.server.warm_pool`), in which Prefect's engine runs it as in a process of its own.
`flows.server._compat` handles states, crashes and cancellation with the code of Prefect's own worker. Any
other run fails, because it could run any command here. Where the operator allows foreign runs, it
gets a process of its own from Prefect's worker.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse
from prefect.settings import get_current_settings
from prefect.states import Failed
from prefect.utilities.processutils import command_to_string, get_sys_executable
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from flows.monitoring.json_logs import log_line
from flows.server._compat import carry_out
from flows.server.prefect_module import command
from flows.server.warm_pool import Bounds, WarmPool, WarmProcess
from flows.server.warm_process import FLOWS
from lindley.workspace import Workspace

#: The command of a job without a configured command.
ENGINE = command_to_string([get_sys_executable(), "-m", "prefect.engine"])
#: The pull step of Lindley's deployments; its only effect is the working folder.
_PULL_STEPS: list[dict[str, Any]] = [{"flows.environment.enter_workspace": {}}]
#: Variables that Prefect sets anew for each run begin so; these are they. Others choose what is run.
_OF_RUN = "PREFECT__"
_SET_BY_PREFECT = {
    f"{_OF_RUN}{of}_{what}" for of in ("FLOW", "DEPLOYMENT", "WORKER") for what in ("ID", "NAME")
}
_RUN_ID, _ENTRYPOINT = "PREFECT__FLOW_RUN_ID", "PREFECT__FLOW_ENTRYPOINT"
_INSTALL = "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES"
_PACKAGES = ("flows", "tasks", "lindley")
_STOP = (signal.SIGINT, signal.SIGTERM)


def notify(sentence: str) -> None:
    """Print a sentence for the log."""
    print(log_line("lindley.worker", sentence), flush=True)


class WarmWorker(ProcessWorker):
    """A process worker with warm processes.

    Parameters
    ----------
    warm
        The warm processes; the caller starts and ends them.
    pool
        Name of the work pool.
    limit
        Flow runs at the same time.
    foreign_runs
        Carry out runs with a command, an environment or a flow of their own.
    """

    def __init__(self, warm: WarmPool, pool: str, limit: int, *, foreign_runs: bool = False) -> None:
        super().__init__(work_pool_name=pool, limit=limit)
        self.warm = warm
        self.foreign_runs = foreign_runs

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Register under another key than Prefect's own worker, which stays registered."""
        return "lindley-warm"

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Carry out a flow run, in a warm process where that changes nothing; see `ProcessWorker.run`."""
        notify = self.get_flow_run_logger(flow_run).info
        deployed = flow_run.deployment_id
        deployment = await self.client.read_deployment(deployed) if deployed else None
        why = foreign(flow_run, deployment, configuration, self.warm.environment)
        if deployment is not None and not why:
            # What was checked is what runs: the engine would ask for the deployment again, which may have
            # another entrypoint by then.
            configuration.env[_ENTRYPOINT] = deployment.entrypoint
            configuration.working_dir = self.warm.folder
        why = brought = why or outside(flow_run, self.warm.folder)
        if why and not self.foreign_runs:
            return await self._refuse(flow_run, why, task_status or anyio.TASK_STATUS_IGNORED)
        why = why or _unfit(self.warm.environment)
        process = None if why else await self.warm.take(str(flow_run.parameters.get("chain", "")))
        if process is None:
            notify("In a process of its own: %s", why or "warm processes do not start")
            if not brought:
                configuration.command = command_to_string(command("prefect.engine"))
                configuration.prepare_for_flow_run(flow_run, deployment)
            return await super().run(flow_run, configuration, task_status)
        notify("In the warm process %s, after %s other run(s)", process.pid, process.runs)
        try:
            return await _run_in(process, flow_run, configuration, task_status or anyio.TASK_STATUS_IGNORED)
        finally:
            await self.warm.give_back(process)

    async def _refuse(
        self, flow_run: FlowRun, why: str, task_status: anyio.abc.TaskStatus[int]
    ) -> ProcessWorkerResult:
        """Let a run fail without running anything of it."""
        message = (
            f"Refused: this worker does not carry it out: {why}. "
            "Expected: a run of Lindley's deployments as they are. "
            "To do: start the worker with --foreign-runs if everyone who may create runs may run commands on "
            "its machine."
        )
        self.get_flow_run_logger(flow_run).error(message)
        state: State[Any] = Failed(message=message)
        await self.client.set_flow_run_state(flow_run.id, state, force=True)
        task_status.started(0)
        return ProcessWorkerResult(status_code=0, identifier="refused")


async def _run_in(
    process: WarmProcess,
    flow_run: FlowRun,
    configuration: ProcessJobConfiguration,
    task_status: anyio.abc.TaskStatus[int],
) -> ProcessWorkerResult:
    """Carry out a flow run in a warm process, in the job's working folder or a temporary one."""
    given = configuration.working_dir
    of_run = {name: v for name, v in configuration.env.items() if name.startswith(_OF_RUN) and v is not None}
    with nullcontext(str(given)) if given else tempfile.TemporaryDirectory(suffix="lindley") as folder:
        code = await carry_out(
            flow_run,
            lambda variables: process.begin({"environment": of_run | dict(variables), "folder": folder}),
            task_status,
        )
    return ProcessWorkerResult(status_code=code, identifier=str(process.pid))


def foreign(
    flow_run: FlowRun,
    deployment: DeploymentResponse | None,
    configuration: ProcessJobConfiguration,
    environment: Mapping[str, str],
) -> str:
    """Return what a run brings that is not Lindley's; empty for a run of Lindley's deployments as they are.

    The configuration is that of its job, with the run's environment; warm processes have the other one.
    """
    if deployment is None:
        return "it has no deployment"
    entrypoint = deployment.entrypoint or ""
    if entrypoint.rpartition(".")[0] not in FLOWS:
        return f"{entrypoint or 'its deployment'} is none of Lindley's flows"
    if flow_run.job_variables:
        return f"it has job variables: {', '.join(sorted(flow_run.job_variables))}"
    if deployment.pull_steps != _PULL_STEPS:
        return "its deployment has other pull steps than Lindley's"
    if configuration.command not in {None, ENGINE}:
        return "its job has a command"
    if not configuration.stream_output:
        return "its job does not show its output"
    wanted = {name: value for name, value in configuration.env.items() if name not in _SET_BY_PREFECT}
    if wanted.pop(_RUN_ID, str(flow_run.id)) != str(flow_run.id):
        return "its job names another run"
    other = sorted(
        name for name in wanted.keys() | environment.keys() if wanted.get(name) != environment.get(name)
    )
    return f"its environment differs in {', '.join(other)}" if other else ""


def outside(flow_run: FlowRun, root: Path) -> str:
    """Return why the file of a run is none that this worker reads; empty if it is.

    Its user may read more than whoever may create runs.
    """
    file, workspace = flow_run.parameters.get("file"), Workspace.from_environment(root)
    if not isinstance(file, str):
        return ""
    chain = str(flow_run.parameters.get("chain", ""))
    places = (workspace.landing, workspace.corrections)
    try:
        named = [(place / chain / file).resolve() for place in places]  # an absolute path stays itself
    except (OSError, RuntimeError, ValueError):  # a loop of links, NUL
        return "its file cannot be found"
    data = workspace.landing.parent
    inside = all(path.is_relative_to(data) for path in named)
    return "" if inside else f"its file lies outside of {data.name}/"


def _unfit(environment: Mapping[str, str]) -> str:
    """Return why no run may share a process in this environment; empty if runs may."""
    if environment.get(_INSTALL, "").lower() in {"1", "true", "on", "yes", "t", "y"}:
        return f"{_INSTALL} is set"
    return ""


async def serve(workspace: Workspace, pool: str, bounds: Bounds, *, foreign_runs: bool = False) -> None:
    """Run a worker until SIGINT or SIGTERM.

    Parameters
    ----------
    workspace
        Whose working folder the warm processes start in.
    pool
        Name of the work pool; made if there is none.
    bounds
        Of the warm processes; their limit is also that of the worker.
    foreign_runs
        Carry out runs with a command, an environment or a flow of their own.
    """
    working = asyncio.current_task()
    assert working is not None  # noqa: S101  (for mypy: this is one)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for number in _STOP:
            loop.remove_signal_handler(number)  # a second signal ends worker and warm processes at once
        working.cancel()

    for number in _STOP:
        loop.add_signal_handler(number, stop)
    async with WarmPool(bounds, _environment(), workspace.root, notify, installed_code) as warm:
        worker = WarmWorker(warm, pool, bounds.limit, foreign_runs=foreign_runs)
        try:
            await worker.start(printer=notify)
        except asyncio.CancelledError:
            notify("Stopped")


def installed_code() -> float:
    """Return the time of the last change of Lindley's own code."""
    here = Path(__file__).resolve().parents[2]
    return max(file.stat().st_mtime for name in _PACKAGES for file in (here / name).rglob("*.py"))


def _environment() -> dict[str, str]:
    """Return the environment of the warm processes: what Prefect gives to a run by default."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    return {name: v for name, v in (dict(os.environ) | settings).items() if not name.startswith(_OF_RUN)}
