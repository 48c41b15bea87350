"""A process worker of Prefect that gives flow runs to residents.

It serves pools of type ``process`` as Prefect's own worker does. A run of Lindley's flows goes to a resident
(`flows.server.residents`), in which Prefect's engine runs it as it would in a process of its own. States,
crashes and cancellation are seen to by what Prefect's own worker uses. Any other run gets a process of its
own from Prefect's code.
"""

from __future__ import annotations

import asyncio
import os
import signal
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

import anyio
import anyio.abc
from prefect.client.schemas.objects import FlowRun, State
from prefect.client.schemas.responses import DeploymentResponse

# No public names, but what Prefect's own process worker is made of; the lock holds Prefect's version.
from prefect.runner._flow_run_executor import FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle
from prefect.settings import get_current_settings
from prefect.workers.process import ProcessJobConfiguration, ProcessWorker, ProcessWorkerResult

from flows.server.residents import Attempt, Bounds, Resident, Residents
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from prefect.runner._control_channel import ControlChannel

#: Flow runs of these modules may share a process one after the other.
_OURS = "flows."
#: The pull step of Lindley's deployments, which leaves nothing but another working folder.
_PULL_STEPS: list[dict[str, Any]] = [{"flows.environment.enter_workspace": {}}]
#: Variables that Prefect sets anew for each run.
_OF_RUN = "PREFECT__"
_INSTALL = "PREFECT_RUNNER_AUTO_INSTALL_DEPENDENCIES"
_PACKAGES = ("flows", "tasks", "lindley")
_STOP = (signal.SIGINT, signal.SIGTERM)


class _Started(Protocol):
    """Takes the handle of what was started."""

    def started(self, value: ProcessHandle) -> None:
        """Take it."""


class ResidentWorker(ProcessWorker):
    """A process worker with residents.

    Parameters
    ----------
    residents
        Who do the runs; see to their start and end outside.
    pool
        Name of the work pool.
    limit
        Flow runs at the same time.
    """

    def __init__(self, residents: Residents, pool: str, limit: int) -> None:
        super().__init__(work_pool_name=pool, limit=limit)
        self.residents = residents

    @classmethod
    def __dispatch_key__(cls) -> str:
        """Leave Prefect's own worker in its place in the list of workers."""
        return "lindley-resident"

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Carry out a flow run, in a resident where that changes nothing; see `ProcessWorker.run`."""
        notify = self.get_flow_run_logger(flow_run).info
        why = await self._unfit(flow_run, configuration)
        resident = None if why else await self.residents.take(str(flow_run.parameters.get("chain", "")))
        if resident is None:
            notify("In a process of its own: %s", why or "residents do not start")
            return await super().run(flow_run, configuration, task_status)
        notify("In the resident %s, after %s other run(s)", resident.pid, resident.runs)
        try:
            return await self._run_in(resident, flow_run, configuration, task_status)
        finally:
            await self.residents.give_back(resident)

    async def _unfit(self, flow_run: FlowRun, configuration: ProcessJobConfiguration) -> str:
        """Return why a run cannot be given to a resident; empty if it can."""
        if flow_run.deployment_id is None:
            return "it has no deployment"
        return unfit(
            await self.client.read_deployment(flow_run.deployment_id),
            configuration,
            self.residents.environment,
        )

    async def _run_in(
        self,
        resident: Resident,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: anyio.abc.TaskStatus[int] | None,
    ) -> ProcessWorkerResult:
        """Carry out a flow run in a resident, as `ProcessWorker.run` does in a process of its own."""
        given = configuration.working_dir
        place = nullcontext(str(given)) if given else tempfile.TemporaryDirectory(suffix="lindley")
        with place as folder:
            async with FlowRunExecutorContext() as context:
                starter = _Starter(resident, _variables(configuration), folder, context.control_channel)
                executor = context.create_executor(
                    flow_run, cast("Any", starter), propose_submitting=False, hook_runner=_NoHooks()
                )
                async with anyio.create_task_group() as group:
                    submitted = _Submitted(executor.submit)
                    await group.start(submitted.run)
                    if task_status is not None:
                        task_status.started(resident.pid)
        if submitted.result is None or submitted.result.status_code is None:
            raise RuntimeError("Failed to start the flow run")
        return ProcessWorkerResult(status_code=submitted.result.status_code, identifier=str(resident.pid))


def unfit(
    deployment: DeploymentResponse, configuration: ProcessJobConfiguration, environment: Mapping[str, str]
) -> str:
    """Return why a run needs a process of its own; empty if a resident can do it.

    Parameters
    ----------
    deployment
        What is run.
    configuration
        The job, with the run's environment.
    environment
        Of the residents.
    """
    entrypoint = deployment.entrypoint or ""
    if not entrypoint.startswith(_OURS) or ":" in entrypoint:
        return f"{entrypoint or 'its deployment'} is none of Lindley's flows"
    if deployment.pull_steps != _PULL_STEPS:
        return "its deployment has other pull steps than Lindley's"
    if configuration._command_configured:
        return "its job has a command"
    if not configuration.stream_output:
        return "its job does not show its output"
    wanted = {name: value for name, value in configuration.env.items() if not name.startswith(_OF_RUN)}
    other = sorted(
        name for name in wanted.keys() | environment.keys() if wanted.get(name) != environment.get(name)
    )
    if other:
        return f"its environment differs in {', '.join(other)}"
    if environment.get(_INSTALL, "").lower() in {"1", "true", "on", "yes", "t", "y"}:
        return f"{_INSTALL} is set"
    return ""


@dataclass
class _Submitted:
    """A flow run that is being carried out, and what came of it."""

    submit: Any
    result: Any = None

    async def run(self, *, task_status: anyio.abc.TaskStatus[ProcessHandle]) -> None:
        self.result = await self.submit(task_status=task_status)


@dataclass
class _Starter:
    """Starts a flow run in a resident; what Prefect calls a process starter."""

    resident: Resident
    variables: Mapping[str, str]
    folder: str
    channel: ControlChannel

    async def start(self, flow_run: FlowRun, task_status: _Started) -> None:
        """Give the order, say so, and wait until the run is over."""
        variables = dict(self.variables) | {
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",  # the worker's part
        }
        try:
            port, token = self.channel.register(flow_run.id)
            variables |= {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        except RuntimeError:
            pass  # Prefect's worker does without as well: it then ends a cancelled run by a signal alone
        attempt = self.resident.begin({"environment": variables, "folder": self.folder})
        task_status.started(ProcessHandle(cast("Any", attempt), termination_scope=_Scope(attempt)))
        await attempt.wait()


@dataclass
class _Scope:
    """How Prefect ends a run in a resident: with the resident."""

    attempt: Attempt
    wait_after_graceful_kill: bool = True

    def is_alive(self, pid: int) -> bool:
        return self.attempt.returncode is None

    def graceful_kill(self, pid: int) -> None:
        self.attempt.send(signal.SIGTERM)

    def hard_kill(self, pid: int) -> None:
        self.attempt.send(signal.SIGKILL)

    def close(self) -> None:
        """Nothing is held."""


class _NoHooks:
    """Lindley's flows have no hooks for crashes and cancellation; others do not come here."""

    async def run_cancellation_hooks(self, flow_run: FlowRun, state: State) -> None:
        """Do nothing."""

    async def run_crashed_hooks(self, flow_run: FlowRun, state: State) -> None:
        """Do nothing."""


def serve(workspace: Workspace, pool: str, bounds: Bounds) -> None:
    """Run a worker until SIGINT or SIGTERM.

    Parameters
    ----------
    workspace
        Whose working folder the residents start in.
    pool
        Name of the work pool; made if there is none.
    bounds
        Of the residents; their limit is also that of the worker.
    """
    asyncio.run(_serve(workspace, pool, bounds))


async def _serve(workspace: Workspace, pool: str, bounds: Bounds) -> None:
    working = asyncio.current_task()
    assert working is not None  # noqa: S101  (for mypy: this is one)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for number in _STOP:
            loop.remove_signal_handler(number)  # a second one ends it at once, and the residents with it
        working.cancel()

    for number in _STOP:
        loop.add_signal_handler(number, stop)
    async with Residents(bounds, _environment(), workspace.root, notify, installed_code) as residents:
        worker = ResidentWorker(residents, pool, bounds.limit)
        try:
            await worker.start(printer=notify)
        except asyncio.CancelledError:
            notify("Stopped")


def notify(sentence: str) -> None:
    """Print a sentence for the log."""
    print(sentence, flush=True)


def installed_code() -> float:
    """Return the time of the last change of Lindley's own code."""
    here = Path(__file__).resolve().parents[2]
    return max(file.stat().st_mtime for name in _PACKAGES for file in (here / name).rglob("*.py"))


def _environment() -> dict[str, str]:
    """Return the environment of the residents: what Prefect gives to each run that asks for nothing else."""
    settings = get_current_settings().to_environment_variables(exclude_unset=True)
    return {name: v for name, v in (dict(os.environ) | settings).items() if not name.startswith(_OF_RUN)}


def _variables(configuration: ProcessJobConfiguration) -> dict[str, str]:
    """Return the variables of one run."""
    return {name: v for name, v in configuration.env.items() if name.startswith(_OF_RUN) and v is not None}
