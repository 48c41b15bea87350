"""Canaries for the private names of Prefect: after an upgrade each fails by the name that changed."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import signal
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import anyio
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelling, Pending
from prefect.utilities.engine import capture_sigterm
from prefect.workers.process import ProcessJobConfiguration

from flows.server import _compat
from flows.server.warm_pool import Attempt
from flows.server.warm_process import forget_control_channel
from flows.server.worker import ENGINE

CONTEXT = "prefect.runner._flow_run_executor.FlowRunExecutorContext"
CHANNEL = "prefect.runner._control_channel.ControlChannel"
HANDLE = "prefect.runner._process_manager.ProcessHandle"
SCOPE = "prefect.runner._process_manager.ProcessTerminationScope"
HOOKS = "prefect.runner._hook_runner.FlowRunHookRunner"
STARTER = "prefect.runner._flow_run_executor.ProcessStarter"


def look_up(name: str) -> object:
    """Return what a dotted name stands for; fails by that name."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        for part in parts[end:]:
            if not hasattr(found, part):
                break
            found = getattr(found, part)
        else:
            return found
    raise AssertionError(f"Prefect has no {name} any more: adapt flows/server/_compat.py")


def changed(name: str, what: object) -> str:
    return f"Prefect's {name} has changed, {what}: adapt flows/server/_compat.py"


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (f"{CONTEXT}.create_executor", ["flow_run", "starter", "propose_submitting", "hook_runner"]),
        ("prefect.runner._flow_run_executor.FlowRunExecutor.submit", ["task_status"]),
        (f"{CHANNEL}.register", ["flow_run_id"]),
        (HANDLE, ["termination_scope"]),
        (f"{STARTER}.start", ["flow_run", "task_status"]),
        (f"{HOOKS}.run_cancellation_hooks", ["flow_run", "state"]),
        (f"{HOOKS}.run_crashed_hooks", ["flow_run", "state"]),
        (f"{SCOPE}.is_alive", ["pid"]),
        (f"{SCOPE}.graceful_kill", ["pid"]),
        (f"{SCOPE}.hard_kill", ["pid"]),
    ],
)
def test_a_private_name_exists_and_takes_what_is_passed(name: str, wanted: list[str]) -> None:
    found = look_up(name)
    assert callable(found)
    taken = inspect.signature(found).parameters
    assert set(wanted) <= set(taken), changed(name, f"it takes {list(taken)}")


@pytest.mark.parametrize(
    ("name", "mine"),
    [(SCOPE, _compat._Scope), (HOOKS, _compat._NoHooks), (STARTER, _compat._Starter)],
)
def test_a_protocol_asks_for_no_more_than_is_implemented(name: str, mine: type) -> None:
    protocol = look_up(name)
    asked = set(getattr(protocol, "__protocol_attrs__", ()))
    assert asked, changed(name, "it is no protocol")
    missing = {each for each in asked if not hasattr(mine, each)}
    assert not missing, changed(name, f"it asks for {sorted(missing)}")


def test_the_module_describes_every_private_module_that_it_imports() -> None:
    source = inspect.getsource(_compat)
    private = {
        line.split()[1] for line in source.splitlines() if line.strip().startswith("from prefect.runner._")
    }
    assert private == {name.rpartition(".")[0] for name in (CONTEXT, CHANNEL, HANDLE)}
    for name in (CONTEXT, HANDLE, "FlowRunExecutorContext.control_channel"):
        assert name in (_compat.__doc__ or "")


def test_the_handle_reports_the_exit_code_of_what_it_is_given() -> None:
    attempt = Attempt(os.getpid())
    handle = _compat.ProcessHandle(attempt, termination_scope=_compat._Scope(attempt))  # type: ignore[arg-type]
    assert (handle.pid, handle.is_alive()) == (os.getpid(), True), changed(
        HANDLE, "it asks for something else"
    )
    attempt.end(3)
    assert (handle.returncode, handle.is_alive()) == (3, False), changed(HANDLE, "it reads something else")


# -- behaviour, on a server ---------------------------------------------------------------------------


@flow
def nothing() -> None:
    """Do nothing."""


@dataclass
class Run:
    """Carries out a flow run with an attempt that ends with an exit code, or when it gets a signal."""

    code: int | None
    flow_run: FlowRun
    variables: dict[str, str] = field(default_factory=dict)
    signals: list[signal.Signals] = field(default_factory=list)
    started: list[int] = field(default_factory=list)

    def begin(self, variables: Mapping[str, str]) -> Attempt:
        self.variables |= variables
        attempt = Attempt(os.getpid())

        def send(number: signal.Signals) -> None:
            self.signals.append(number)
            attempt.end(-number)

        attempt.send = send  # type: ignore[method-assign]
        if self.code is not None:
            attempt.end(self.code)
        return attempt

    def carry_out(self, during: Callable[[], None] = lambda: None) -> int:
        status: anyio.abc.TaskStatus[int] = anyio.TASK_STATUS_IGNORED

        async def work() -> int:
            async with asyncio.timeout(120):
                running = asyncio.create_task(_compat.carry_out(self.flow_run, self.begin, status))
                while not self.variables and not running.done():
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(during)
                return await running

        return asyncio.run(work())

    @property
    def state(self) -> tuple[str | None, str]:
        with get_client(sync_client=True) as client:
            found = client.read_flow_run(self.flow_run.id).state
        assert found is not None
        return found.name, found.message or ""


@pytest.fixture
def make(prefect_server: None) -> Callable[[int | None], Run]:
    def made(code: int | None) -> Run:
        with get_client(sync_client=True) as client:
            return Run(code, client.create_flow_run(nothing, state=Pending()))

    return made


def test_a_run_that_ends_with_an_exit_code_has_crashed_and_has_a_control_channel(make) -> None:
    run = make(3)
    assert run.carry_out() == 3
    name, message = run.state
    assert (name, "status code: 3" in message) == ("Crashed", True), changed(CONTEXT, f"the run is {name}")
    assert run.variables["PREFECT__FLOW_RUN_ID"] == str(run.flow_run.id)
    wanted = {"PREFECT__CONTROL_PORT", "PREFECT__CONTROL_TOKEN"}
    assert wanted <= set(run.variables), changed(f"{CHANNEL}.register", "runs have no control channel")


def test_a_run_that_ends_well_keeps_its_state(make) -> None:
    run = make(0)
    assert run.carry_out() == 0
    assert run.state[0] == "Pending", changed(CONTEXT, f"the run is {run.state}")


def test_cancelling_a_run_terminates_it_and_marks_it(make) -> None:
    run = make(None)

    def cancel() -> None:
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(run.flow_run.id, Cancelling(), force=True)

    run.carry_out(cancel)
    assert run.signals[:1] == [signal.SIGTERM], changed(SCOPE, f"it sent {run.signals}")
    assert run.state[0] == "Cancelled", changed(CONTEXT, f"the run is {run.state}")


# -- public names whose behaviour is used ---------------------------------------------------------------


def test_a_job_without_a_command_has_the_command_that_the_worker_expects(make) -> None:
    job = ProcessJobConfiguration()
    job.prepare_for_flow_run(make(0).flow_run)
    assert job.command == ENGINE, changed("ProcessJobConfiguration", f"its command is {job.command!r}")


def test_capturing_sigterm_forgets_the_control_channel_of_an_earlier_run(monkeypatch) -> None:
    from prefect._internal.control_listener import configure_from_env

    def configure(server: socket.socket) -> None:
        """Do what the engine does first; a run that fails to load its flow does no more."""
        monkeypatch.setenv("PREFECT__CONTROL_PORT", str(server.getsockname()[1]))
        monkeypatch.setenv("PREFECT__CONTROL_TOKEN", "token")
        configure_from_env()

    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        configure(first)
        forget_control_channel()
        configure(second)
        with capture_sigterm():
            second.settimeout(5)
            try:
                second.accept()[0].close()
            except TimeoutError:
                pytest.fail(changed("capture_sigterm", "a run connects to the address of an earlier run"))
