"""The private names of Prefect that Lindley uses; no other module uses any.

Prefect's own process worker is built from them. No public name carries out a flow run in a process that
already runs:

``prefect.runner._flow_run_executor.FlowRunExecutorContext``
    Proposes the states of a flow run, observes its cancellation and reports its crash, whatever carries out
    the run. The public ways start a new process for each run: `ProcessWorker.run` and
    `Runner.execute_flow_run` start ``python -m prefect.engine`` or the job's command, and
    `prefect.flow_engine.run_flow_in_subprocess` spawns Python. A job command that forwards the run to a warm
    process would need public names only, at two costs: Prefect would show and signal the process that
    forwards, and to look for hooks of a crashed or cancelled run its worker would import the flow, and PyMC
    with it, into itself.
``FlowRunExecutorContext.control_channel``
    Gives a run the address at which it hears that a termination is a cancellation, not a crash. There is no
    public counterpart; without it a cancelled run reports a crash.
``prefect.runner._process_manager.ProcessHandle``
    What the executor expects of whatever starts a run: an exit code and a way to terminate. The public
    `anyio.abc.Process` stands for a whole process, which a warm process outlives.

``tests/flows/server/test_compat.py`` checks existence, signature and behaviour of each.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import anyio
import anyio.abc
from prefect.client.schemas.objects import FlowRun, State
from prefect.runner._flow_run_executor import FlowRunExecutionResult, FlowRunExecutorContext
from prefect.runner._process_manager import ProcessHandle

if TYPE_CHECKING:
    from prefect.runner._control_channel import ControlChannel

    from flows.server.warm_pool import Attempt


#: Starts a flow run that gets these variables from Prefect.
Begin = Callable[[Mapping[str, str]], "Attempt"]


async def carry_out(flow_run: FlowRun, begin: Begin, task_status: anyio.abc.TaskStatus[int]) -> int:
    """Carry out a flow run in a warm process, as `ProcessWorker.run` does in a new process.

    Parameters
    ----------
    flow_run
        The flow run; Prefect's server gets its states.
    begin
        Starts it.
    task_status
        Gets the id of the process.

    Returns
    -------
    int
        The exit code.

    Raises
    ------
    RuntimeError
        If the run does not start.
    """
    result: FlowRunExecutionResult | None = None
    async with FlowRunExecutorContext() as context:
        starter = _Starter(begin, context.control_channel)
        executor = context.create_executor(
            flow_run, cast("Any", starter), propose_submitting=False, hook_runner=_NoHooks()
        )

        async def submit(*, task_status: anyio.abc.TaskStatus[ProcessHandle]) -> None:
            nonlocal result
            result = await executor.submit(task_status=task_status)

        async with anyio.create_task_group() as group:
            handle = await group.start(submit)
            task_status.started(handle.pid)
    if result is None or result.status_code is None:
        raise RuntimeError("The flow run did not start")
    return result.status_code


@dataclass
class _Starter:
    """Starts a flow run in a warm process; Prefect's protocol ``ProcessStarter``."""

    begin: Begin
    channel: ControlChannel

    async def start(self, flow_run: FlowRun, task_status: anyio.abc.TaskStatus[ProcessHandle]) -> None:
        """Start the run, hand over its handle, and wait until the run is over."""
        variables = {
            "PREFECT__FLOW_RUN_ID": str(flow_run.id),
            "PREFECT__ENABLE_CANCELLATION_AND_CRASHED_HOOKS": "false",  # the worker's part
        }
        try:
            port, token = self.channel.register(flow_run.id)
            variables |= {"PREFECT__CONTROL_PORT": str(port), "PREFECT__CONTROL_TOKEN": token}
        except RuntimeError:
            pass  # without the channel Prefect's worker, too, cancels by a signal alone
        attempt = self.begin(variables)
        task_status.started(ProcessHandle(cast("Any", attempt), termination_scope=_Scope(attempt)))
        await attempt.wait()


@dataclass
class _Scope:
    """Terminates a run, and its warm process with it; Prefect's protocol ``ProcessTerminationScope``."""

    attempt: Attempt
    wait_after_graceful_kill: bool = True

    def is_alive(self, pid: int) -> bool:
        return self.attempt.returncode is None

    def graceful_kill(self, pid: int) -> None:
        self.attempt.send(signal.SIGTERM)

    def hard_kill(self, pid: int) -> None:
        self.attempt.send(signal.SIGKILL)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""


class _NoHooks:
    """No hooks: Lindley's flows, the only ones that run in warm processes, have none."""

    async def run_cancellation_hooks(self, flow_run: FlowRun, state: State) -> None:
        """Do nothing."""

    async def run_crashed_hooks(self, flow_run: FlowRun, state: State) -> None:
        """Do nothing."""
