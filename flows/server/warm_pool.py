"""Warm processes: started once, then given one flow run after the other.

A warm process is a child with everything imported and with the functions in memory that it compiled. It reads
orders as lines of JSON on its standard input and writes reports to its standard output; its other output goes
to standard error. `flows.server.warm_process` is the program that runs in it. Nothing here depends on
Prefect.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

from lindley.report.text import counted

#: Runs after which a warm process is replaced.
RUNS = 500
#: After so many failed starts in a row no more warm processes are started.
FAILED_STARTS = 3
#: Seconds that a warm process may take to end by itself.
GRACE_SECONDS = 5.0

#: Its folder is the working folder, where a folder `flows` or `tasks` of the user's own must not be found.
_COMMAND = (sys.executable, "-P", "-m", "flows.server.warm_process")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """How many warm processes there are, and when they are replaced.

    Parameters
    ----------
    limit
        Warm processes at the same time.
    memory
        Bytes of resident memory above which a process is replaced after a run.
    runs
        Runs after which a process is replaced.
    """

    limit: int
    memory: int
    runs: int = RUNS


def default_memory(limit: int) -> int:
    """Return how many bytes each of `limit` warm processes may have: half of the machine's memory for all."""
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or "max"
        total = min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    return total // (2 * limit)


@dataclass
class Attempt:
    """One flow run in a warm process, presented as a process that ends with the run.

    Parameters
    ----------
    pid
        Of the warm process.
    """

    pid: int
    returncode: int | None = None
    signalled: bool = False
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, code: int) -> None:
        """Record the exit code; later calls change nothing."""
        if self.returncode is None:
            self.returncode = code
            self._over.set()

    async def wait(self) -> int:
        """Wait until it has ended and return its exit code; minus the signal that killed the process."""
        await self._over.wait()
        assert self.returncode is not None  # noqa: S101  (for mypy: set before the event)
        return self.returncode

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the warm process and what it started, unless the run is over."""
        if self.returncode is None:
            self.signalled = True
            _signal(self.pid, number)


@dataclass(eq=False)
class WarmProcess:
    """A child that takes orders.

    Parameters
    ----------
    process
        Its handle.
    code
        The code that it was started with; see `WarmPool`.
    """

    process: asyncio.subprocess.Process
    code: object
    ready: bool = False
    taken: bool = False
    ending: str = ""
    runs: int = 0
    keys: set[str] = field(default_factory=set)
    attempt: Attempt | None = None
    exit_code: int | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def free(self) -> bool:
        """Whether it is in no run and stays."""
        return not self.taken and not self.ending

    def begin(self, order: Mapping[str, Any]) -> Attempt:
        """Give it a run."""
        assert self.process.stdin is not None  # noqa: S101  (for mypy: a pipe)
        self.attempt = Attempt(self.pid)
        self.ready = False
        self.runs += 1
        if self.exit_code is not None:
            self.attempt.end(self.exit_code)
        # Where its death is not detected yet, the end of its reports ends the attempt.
        self.process.stdin.write(json.dumps({"run": dict(order)}).encode() + b"\n")
        return self.attempt

    def leave(self) -> None:
        """Let it end: it ends at once when its standard input is closed."""
        assert self.process.stdin is not None  # noqa: S101  (for mypy: a pipe)
        self.process.stdin.close()


@dataclass
class WarmPool:
    """The warm processes of one worker, as an asynchronous context.

    A process is replaced when it dies, grows above its memory bound, has done its runs, left something
    changed behind or holds code that is no longer the installed code.

    Parameters
    ----------
    bounds
        How many processes there are, and when they are replaced.
    environment, folder
        Of the children.
    notify
        Takes one sentence for the log.
    code
        Identifies the installed code; a process that was started with other code gets no more runs.
    command
        Starts a warm process.
    """

    bounds: Bounds
    environment: Mapping[str, str]
    folder: Path
    notify: Callable[[str], object]
    code: Callable[[], object] = lambda: None
    command: Sequence[str] = _COMMAND
    all: list[WarmProcess] = field(default_factory=list, init=False)
    _failed: int = field(default=0, init=False)
    _waiting: int = field(default=0, init=False)
    _closed: bool = field(default=False, init=False)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition, init=False)
    _listeners: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def __aenter__(self) -> Self:
        """Start the first process, so that it is ready when the first run comes."""
        await self._start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """End all processes; a run in progress has time to report that it was terminated."""
        self._closed = True
        for process in self.all:
            if process.attempt is None:
                process.leave()
            elif not process.attempt.signalled:
                process.attempt.send(signal.SIGTERM)
        if self._listeners:
            await asyncio.wait(self._listeners, timeout=GRACE_SECONDS)
        for process in list(self.all):
            _signal(process.pid, signal.SIGKILL)
        await asyncio.gather(*self._listeners)

    @property
    def usable(self) -> bool:
        """Whether warm processes start at all."""
        return self._failed < FAILED_STARTS

    async def take(self, key: str) -> WarmProcess | None:
        """Return a process that waits, preferably one that has done a run with this key.

        Waits for one that is starting or cleaning up. None when they do not start.
        """
        self._waiting += 1
        try:
            async with self._changed:
                while self.usable and not self._closed:
                    self._end_old_code()
                    free = [one for one in self.all if one.free]
                    idle = [one for one in free if one.ready]
                    if idle:
                        best = max(idle, key=lambda one: (key in one.keys, one.runs))
                        best.taken = True
                        best.keys.add(key)
                        return best
                    if len(free) < self._waiting and len(self.all) < self.bounds.limit:
                        await self._start()
                    await self._changed.wait()
        finally:
            self._waiting -= 1
        return None

    async def give_back(self, process: WarmProcess) -> None:
        """Let others take it, as soon as it reports that it is ready."""
        process.taken = False
        await self._notify_waiting()

    async def _notify_waiting(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    # -- one process ----------------------------------------------------------------------------------

    async def _start(self) -> None:
        try:
            child = await asyncio.create_subprocess_exec(
                *self.command,
                env=dict(self.environment),
                cwd=self.folder,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,  # what it starts is ended with it, and Ctrl-C is for the worker
            )
        except OSError as error:
            self._give_up(str(error))
            return
        process = WarmProcess(child, self.code())
        self.all.append(process)
        listener = asyncio.create_task(self._listen(process))
        self._listeners.add(listener)
        listener.add_done_callback(self._listeners.discard)

    async def _listen(self, process: WarmProcess) -> None:
        """Read a process's reports until it has ended, then replace it."""
        reports = process.process.stdout
        assert reports is not None  # noqa: S101  (for mypy: a pipe)
        started = False
        try:
            while line := await reports.readline():
                await self._handle(process, json.loads(line))
                started = True
        except (ValueError, KeyError, TypeError) as error:  # no JSON, too long, or something else
            process.ending = f"its reports cannot be read: {error}"
            _signal(process.pid, signal.SIGKILL)
        process.exit_code = code = await process.process.wait()
        _signal(process.pid, signal.SIGKILL)  # what it started and left behind
        if process.attempt is not None:
            process.attempt.end(code)
        self.all.remove(process)
        async with self._changed:
            if not self._closed:
                await self._replace(process, code, started)
            self._changed.notify_all()

    async def _handle(self, process: WarmProcess, report: Mapping[str, Any]) -> None:
        """Take a report: the end of a run, or that the process is ready."""
        if "ended" in report:
            left = report["ended"]["left"]
            if left:
                process.ending = f"the run left changed: {', '.join(left)}"
            if process.attempt is not None:
                process.attempt.end(int(report["ended"]["code"]))
                process.attempt = None
            return
        self._failed = 0
        process.ending = process.ending or self._used_up(process, int(report["ready"]["memory"]))
        if process.ending:
            process.leave()
        else:
            process.ready = True
        await self._notify_waiting()

    def _used_up(self, process: WarmProcess, memory: int) -> str:
        """Return why a process that has done a run is to end; empty if it is to stay."""
        if process.runs >= self.bounds.runs:
            return f"it has done its {counted(process.runs, 'run')}"
        if process.runs and memory > self.bounds.memory:
            most = self.bounds.memory // 2**20
            return f"it has {memory // 2**20:,} MiB of memory, more than {most:,} MiB"
        return ""

    def _end_old_code(self) -> None:
        """Let processes end that hold code which is no longer installed."""
        code = self.code()
        for process in self.all:
            if process.ready and process.free and process.code != code:
                process.ending = "Lindley's code has changed"
                process.leave()

    async def _replace(self, process: WarmProcess, code: int, started: bool) -> None:
        why = process.ending or f"it ended by itself with exit code {code}"
        if not started:
            self._failed += 1
        if self.usable:
            self.notify(f"Warm process {process.pid} is replaced after {counted(process.runs, 'run')}: {why}")
            await self._start()
        else:
            self._give_up(why)

    def _give_up(self, why: str) -> None:
        self._failed = FAILED_STARTS
        self.notify(f"Warm processes do not start ({why}): each flow run gets a process of its own")


def _signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a warm process and everything in its session's group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
