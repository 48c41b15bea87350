"""Warm processes are taken, given back and replaced; real processes, of a program that does nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from flows.server.warm_pool import FAILED_STARTS, Bounds, WarmPool, WarmProcess, default_memory

#: Reports as `flows.server.warm_process` does. An order states how much memory the program reports, what it
#: left changed, and how it ends.
PROGRAM = """
import json, os, signal, sys, threading, queue
orders = queue.SimpleQueue()
def listen():
    for line in sys.stdin:
        orders.put(json.loads(line)["run"])
    os.killpg(os.getpid(), signal.SIGKILL)
threading.Thread(target=listen, daemon=True).start()
def report(what, **values):
    print(json.dumps({what: values}), flush=True)
report("ready", memory=10)
while True:
    order = orders.get()
    if "hang" in order:
        threading.Event().wait()
    report("ended", code=order.get("code", 0), left=order.get("left", []))
    report("ready", memory=order.get("memory", 10))
"""
COMMAND = [sys.executable, "-c", PROGRAM]


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def make(tmp_path: Path, lines: list[str]) -> Callable[..., WarmPool]:
    def made(*, limit: int = 1, memory: int = 100, runs: int = 99, **how: Any) -> WarmPool:
        bounds = Bounds(limit=limit, memory=memory, runs=runs)
        return WarmPool(bounds, os.environ, tmp_path, lines.append, **({"command": COMMAND} | how))

    return made


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(limited())


async def carry_out(warm: WarmPool, key: str = "coins", **order: Any) -> tuple[WarmProcess, int]:
    """Carry out a run and return its process and its exit code."""
    process = await warm.take(key)
    assert process is not None
    code = await process.begin(order).wait()
    await warm.give_back(process)
    return process, code


def test_one_process_does_one_run_after_the_other(make, lines):
    async def work() -> None:
        async with make() as warm:
            done = [await carry_out(warm, code=code) for code in (0, 1, 0)]
            assert [code for _, code in done] == [0, 1, 0]
            assert len({one.pid for one, _ in done}) == 1
        assert not psutil.pid_exists(done[0][0].pid)

    run(work)
    assert lines == []


@pytest.mark.parametrize(
    ("bounds", "order", "why"),
    [
        ({"runs": 1}, {}, "it has done its 1 run"),
        ({"memory": 2**21}, {"memory": 2**22}, "it has 4 MiB of memory, more than 2 MiB"),
        ({}, {"left": ["pytensor.config"]}, "the run left changed: pytensor.config"),
    ],
)
def test_a_process_that_is_used_up_is_replaced(make, lines, bounds, order, why):
    async def work() -> None:
        async with make(**bounds) as warm:
            first, code = await carry_out(warm, **order)
            second, _ = await carry_out(warm)
            assert code == 0
            assert second.pid != first.pid
            assert not psutil.pid_exists(first.pid)

    run(work)
    assert lines[0] == f"Warm process {lines[0].split()[2]} is replaced after 1 run: {why}"


def test_the_run_of_a_killed_process_has_the_exit_code_of_the_kill(make, lines):
    async def work() -> None:
        async with make() as warm:
            process = await warm.take("coins")
            attempt = process.begin({"hang": True})
            os.kill(process.pid, signal.SIGKILL)
            assert await attempt.wait() == -signal.SIGKILL
            await warm.give_back(process)
            other, code = await carry_out(warm)
            assert (code, other.pid != process.pid) == (0, True)

    run(work)
    assert "ended by itself with exit code -9" in lines[0]


def test_a_signal_for_a_run_that_is_over_is_not_sent(make):
    async def work() -> None:
        async with make() as warm:
            process = await warm.take("coins")
            attempt = process.begin({})
            await attempt.wait()
            attempt.send(signal.SIGKILL)
            await warm.give_back(process)
            again, _ = await carry_out(warm)
            assert again is process

    run(work)


def test_a_run_that_is_given_to_a_dead_process_ends(make):
    async def work() -> None:
        async with make() as warm:
            process = await warm.take("coins")
            os.kill(process.pid, signal.SIGKILL)
            while process.exit_code is None:
                await asyncio.sleep(0.01)
            assert await process.begin({}).wait() == -signal.SIGKILL

    run(work)


def test_simultaneous_runs_have_a_process_each_and_find_theirs_again(make):
    async def work() -> None:
        async with make(limit=2) as warm:
            one, two = await asyncio.gather(warm.take("one"), warm.take("two"))
            assert one is not two
            third = asyncio.create_task(warm.take("one"))
            await asyncio.sleep(0.05)
            assert not third.done()  # no more than the limit
            await warm.give_back(two)
            assert await third is two
            await warm.give_back(one)
            await warm.give_back(two)
            assert await warm.take("two") is two

    run(work)


def test_a_changed_installation_gets_new_processes(make, lines):
    async def work() -> None:
        code = [1.0]
        async with make(code=lambda: code[0]) as warm:
            first, _ = await carry_out(warm)
            code[0] = 2.0
            second, _ = await carry_out(warm)
            assert second.pid != first.pid

    run(work)
    assert "Lindley's code has changed" in lines[0]


def test_no_run_waits_for_processes_that_do_not_start(make, lines):
    async def work() -> None:
        async with make(command=[sys.executable, "-c", "raise SystemExit(3)"]) as warm:
            assert await warm.take("coins") is None
            assert not warm.usable
            assert warm.all == []

    run(work)
    assert len(lines) == FAILED_STARTS
    why = "(it ended by itself with exit code 3)"
    assert lines[-1] == f"Warm processes do not start {why}: each flow run gets a process of its own"


def test_a_missing_program_is_reported(make, lines):
    async def work() -> None:
        async with make(command=["/no/such/program"]) as warm:
            assert await warm.take("coins") is None

    run(work)
    assert "Warm processes do not start" in lines[0]


def test_a_process_with_unreadable_reports_is_ended(make, lines):
    async def work() -> None:
        nonsense = "print('what?', flush=True); import time; time.sleep(99)"
        async with make(command=[sys.executable, "-c", nonsense]) as warm:
            assert await warm.take("coins") is None

    run(work)
    assert "its reports cannot be read" in lines[0]


def test_closing_the_pool_terminates_a_run_in_progress(make):
    async def work() -> None:
        async with make() as warm:
            process = await warm.take("coins")
            attempt = process.begin({"hang": True})
        assert attempt.returncode == -signal.SIGTERM
        assert not psutil.pid_exists(process.pid)

    run(work)


def test_half_of_the_memory_is_for_all_processes():
    assert 0 < 4 * default_memory(2) <= psutil.virtual_memory().total
    assert default_memory(4) == pytest.approx(default_memory(2) / 2, abs=1)
