"""Processes that stay: started once, then given one flow run after the other.

A resident is a child with everything imported and the functions in memory that it compiled. It takes orders
as lines of JSON on its standard input and reports on its standard output; its own output goes where
standard error goes. `flows.server.resident` is what runs in it. Nothing here knows Prefect.
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
from types import TracebackType
from typing import Any, Self

import psutil  # type: ignore[import-untyped]

#: Runs that a resident does before another takes its place.
RUNS = 500
#: Residents that may end before they are ready, one after the other, before no more are started.
FAILED_STARTS = 3
#: Seconds that a resident may take to end by itself.
GRACE_SECONDS = 5.0

_COMMAND = (sys.executable, "-m", "flows.server.resident")
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """When residents are replaced, and how many there are.

    Parameters
    ----------
    limit
        Residents at the same time.
    memory
        Bytes of resident memory that one may have after a run.
    runs
        Runs that one does.
    """

    limit: int
    memory: int
    runs: int = RUNS


def default_memory(limit: int) -> int:
    """Return how many bytes each of `limit` residents may have: half of the machine's memory for all."""
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):  # no cgroup, or "max"
        total = min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    return total // (2 * limit)


@dataclass
class Attempt:
    """One flow run in a resident; stands for a process of its own, which ends with the run.

    Parameters
    ----------
    pid
        Of the resident.
    """

    pid: int
    returncode: int | None = None
    told: bool = False
    _over: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self, code: int) -> None:
        """Say how it ended; only the first word counts."""
        if self.returncode is None:
            self.returncode = code
            self._over.set()

    async def wait(self) -> int:
        """Wait until it has ended and return its exit code; minus the signal that killed the resident."""
        await self._over.wait()
        assert self.returncode is not None  # noqa: S101  (for mypy: set before the event)
        return self.returncode

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the resident and what it started, unless the run is over."""
        if self.returncode is None:
            self.told = True
            _signal(self.pid, number)


@dataclass(eq=False)
class Resident:
    """A child that takes orders.

    Parameters
    ----------
    process
        Its handle.
    code
        The code that it was started with; see `Residents`.
    """

    process: asyncio.subprocess.Process
    code: object
    ready: bool = False
    taken: bool = False
    ending: str = ""
    runs: int = 0
    keys: set[str] = field(default_factory=set)
    attempt: Attempt | None = None
    gone: int | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def begin(self, order: Mapping[str, Any]) -> Attempt:
        """Give it a run."""
        assert self.process.stdin is not None  # noqa: S101  (for mypy: a pipe)
        self.attempt = Attempt(self.pid)
        self.ready = False
        self.runs += 1
        if self.gone is not None:
            self.attempt.end(self.gone)
        # Where it is dead and nobody knows yet, the end of its reports ends the attempt.
        self.process.stdin.write(json.dumps({"run": dict(order)}).encode() + b"\n")
        return self.attempt

    def leave(self) -> None:
        """Let it end: it does at once when nobody holds the other end of its orders."""
        assert self.process.stdin is not None  # noqa: S101  (for mypy: a pipe)
        self.process.stdin.close()


@dataclass
class Residents:
    """The residents of one worker, as an asynchronous context.

    A resident that dies, grows too big, has done its runs, left something changed behind or holds code
    that is no longer the installed one is replaced.

    Parameters
    ----------
    bounds
        How many there are, and for how long.
    environment, folder
        Of the children.
    say
        Takes one sentence about what goes on.
    code
        What identifies the installed code; a resident with another one gets no more runs.
    command
        Starts a resident.
    """

    bounds: Bounds
    environment: Mapping[str, str]
    folder: Path
    notify: Callable[[str], object]
    code: Callable[[], object] = lambda: None
    command: Sequence[str] = _COMMAND
    all: list[Resident] = field(default_factory=list, init=False)
    _failed: int = field(default=0, init=False)
    _waiting: int = field(default=0, init=False)
    _closed: bool = field(default=False, init=False)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition, init=False)
    _listeners: set[asyncio.Task[None]] = field(default_factory=set, init=False)

    async def __aenter__(self) -> Self:
        """Start the first one, so that it is ready when the first run comes."""
        await self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all of them; a run in progress may first say that it was cut off."""
        self._closed = True
        for resident in self.all:
            if resident.attempt is None:
                resident.leave()
            elif not resident.attempt.told:
                resident.attempt.send(signal.SIGTERM)
        if self._listeners:
            await asyncio.wait(self._listeners, timeout=GRACE_SECONDS)
        for resident in list(self.all):
            _signal(resident.pid, signal.SIGKILL)
        await asyncio.gather(*self._listeners)

    @property
    def usable(self) -> bool:
        """Whether they start at all."""
        return self._failed < FAILED_STARTS

    async def take(self, key: str) -> Resident | None:
        """Return a resident that waits, the one that has done a run with this key if it can be.

        Waits for one that is starting or cleaning up. None when they do not start.
        """
        self._waiting += 1
        try:
            async with self._changed:
                while self.usable and not self._closed:
                    self._end_old_code()
                    idle = [one for one in self.all if one.ready and not one.taken and not one.ending]
                    if idle:
                        best = max(idle, key=lambda one: (key in one.keys, one.runs))
                        best.taken = True
                        best.keys.add(key)
                        return best
                    coming = [one for one in self.all if not one.taken and not one.ending]
                    if len(coming) < self._waiting and len(self.all) < self.bounds.limit:
                        await self._start()
                    await self._changed.wait()
        finally:
            self._waiting -= 1
        return None

    async def give_back(self, resident: Resident) -> None:
        """Let others take it, as soon as it says that it is ready."""
        resident.taken = False
        async with self._changed:
            self._changed.notify_all()

    # -- one resident ---------------------------------------------------------------------------------

    async def _start(self) -> None:
        try:
            process = await asyncio.create_subprocess_exec(
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
        resident = Resident(process, self.code())
        self.all.append(resident)
        listener = asyncio.create_task(self._listen(resident))
        self._listeners.add(listener)
        listener.add_done_callback(self._listeners.discard)

    async def _listen(self, resident: Resident) -> None:
        """Hear a resident's reports until it is gone, and see to its place."""
        reports = resident.process.stdout
        assert reports is not None  # noqa: S101  (for mypy: a pipe)
        started = False
        try:
            while line := await reports.readline():
                started |= await self._heard(resident, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:  # no JSON, too long, or something else
            resident.ending = f"what it reports cannot be read: {error}"
            _signal(resident.pid, signal.SIGKILL)
        code = await resident.process.wait()
        _signal(resident.pid, signal.SIGKILL)  # what it started and left behind
        resident.gone = code
        if resident.attempt is not None:
            resident.attempt.end(code)
        self.all.remove(resident)
        async with self._changed:
            if not self._closed:
                await self._replace(resident, code, started)
            self._changed.notify_all()

    async def _heard(self, resident: Resident, report: Mapping[str, Any]) -> bool:
        """Take a report; return whether the resident is up."""
        if "ended" in report:
            left = report["ended"]["left"]
            if left:
                resident.ending = f"the run left changed: {', '.join(left)}"
            if resident.attempt is not None:
                resident.attempt.end(int(report["ended"]["code"]))
                resident.attempt = None
            return True
        self._failed = 0
        self._assess(resident, int(report["ready"]["memory"]))
        if resident.ending:
            resident.leave()
        else:
            resident.ready = True
        async with self._changed:
            self._changed.notify_all()
        return True

    def _assess(self, resident: Resident, memory: int) -> None:
        """Choose whether a resident that has done a run is to end."""
        if resident.ending or not resident.runs:
            return
        if resident.runs >= self.bounds.runs:
            resident.ending = f"it has done its {_counted(resident.runs)}"
        elif memory > self.bounds.memory:
            most = _megabytes(self.bounds.memory)
            resident.ending = f"it has {_megabytes(memory)} of memory, more than {most}"

    def _end_old_code(self) -> None:
        """Let residents end that would run code which is no longer installed."""
        code = self.code()
        for resident in self.all:
            if resident.ready and not resident.taken and not resident.ending and resident.code != code:
                resident.ending = "Lindley's code has changed"
                resident.leave()

    async def _replace(self, resident: Resident, code: int, started: bool) -> None:
        why = resident.ending or f"it ended by itself with exit code {code}"
        if not started:
            self._failed += 1
        if self.usable:
            self.notify(f"Resident {resident.pid} is replaced after {_counted(resident.runs)}: {why}")
            await self._start()
        else:
            self._give_up(why)

    def _give_up(self, why: str) -> None:
        self._failed = FAILED_STARTS
        self.notify(f"Residents do not start ({why}): flow runs get processes of their own")


def _signal(pid: int, number: signal.Signals) -> None:
    """Send a signal to a resident and everything in its session's group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _counted(runs: int) -> str:
    return f"{runs} run{'' if runs == 1 else 's'}"


def _megabytes(size: int) -> str:
    return f"{size // 2**20:,} MiB"
