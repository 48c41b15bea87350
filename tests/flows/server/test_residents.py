"""Residents are taken, given back and replaced; real processes, of a program that does nothing."""

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

from flows.server.residents import FAILED_STARTS, Bounds, Resident, Residents, default_memory

#: Speaks as `flows.server.resident` does. An order says how much memory it claims, what it left, how it ends.
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
def make(tmp_path: Path, lines: list[str]) -> Callable[..., Residents]:
    def made(*, limit: int = 1, memory: int = 100, runs: int = 99, **how: Any) -> Residents:
        bounds = Bounds(limit=limit, memory=memory, runs=runs)
        return Residents(bounds, os.environ, tmp_path, lines.append, **({"command": COMMAND} | how))

    return made


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(60):
            await work()

    asyncio.run(limited())


async def carry_out(residents: Residents, key: str = "coins", **order: Any) -> tuple[Resident, int]:
    """Have a run done and return who did it and its exit code."""
    resident = await residents.take(key)
    assert resident is not None
    code = await resident.begin(order).wait()
    await residents.give_back(resident)
    return resident, code


def test_one_resident_does_one_run_after_the_other(make, lines):
    async def work() -> None:
        async with make() as residents:
            done = [await carry_out(residents, code=code) for code in (0, 1, 0)]
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
def test_one_that_is_used_up_is_replaced(make, lines, bounds, order, why):
    async def work() -> None:
        async with make(**bounds) as residents:
            first, code = await carry_out(residents, **order)
            second, _ = await carry_out(residents)
            assert code == 0
            assert second.pid != first.pid
            assert not psutil.pid_exists(first.pid)

    run(work)
    assert lines[0] == f"Resident {lines[0].split()[1]} is replaced after 1 run: {why}"


def test_the_run_of_one_that_is_killed_has_the_exit_code_of_the_kill(make, lines):
    async def work() -> None:
        async with make() as residents:
            resident = await residents.take("coins")
            attempt = resident.begin({"hang": True})
            os.kill(resident.pid, signal.SIGKILL)
            assert await attempt.wait() == -signal.SIGKILL
            await residents.give_back(resident)
            other, code = await carry_out(residents)
            assert (code, other.pid != resident.pid) == (0, True)

    run(work)
    assert "ended by itself with exit code -9" in lines[0]


def test_a_signal_for_a_run_that_is_over_reaches_nobody(make):
    async def work() -> None:
        async with make() as residents:
            resident = await residents.take("coins")
            attempt = resident.begin({})
            await attempt.wait()
            attempt.send(signal.SIGKILL)
            await residents.give_back(resident)
            again, _ = await carry_out(residents)
            assert again is resident

    run(work)


def test_a_run_that_is_given_to_a_dead_one_ends(make):
    async def work() -> None:
        async with make() as residents:
            resident = await residents.take("coins")
            os.kill(resident.pid, signal.SIGKILL)
            while resident.gone is None:
                await asyncio.sleep(0.01)
            assert await resident.begin({}).wait() == -signal.SIGKILL

    run(work)


def test_runs_at_the_same_time_have_a_resident_each_and_find_theirs_again(make):
    async def work() -> None:
        async with make(limit=2) as residents:
            one, two = await asyncio.gather(residents.take("one"), residents.take("two"))
            assert one is not two
            third = asyncio.create_task(residents.take("one"))
            await asyncio.sleep(0.05)
            assert not third.done()  # no more than the limit
            await residents.give_back(two)
            assert await third is two
            await residents.give_back(one)
            await residents.give_back(two)
            assert await residents.take("two") is two

    run(work)


def test_a_changed_installation_gets_new_residents(make, lines):
    async def work() -> None:
        code = [1.0]
        async with make(code=lambda: code[0]) as residents:
            first, _ = await carry_out(residents)
            code[0] = 2.0
            second, _ = await carry_out(residents)
            assert second.pid != first.pid

    run(work)
    assert "Lindley's code has changed" in lines[0]


def test_when_they_do_not_start_nobody_waits_for_one(make, lines):
    async def work() -> None:
        async with make(command=[sys.executable, "-c", "raise SystemExit(3)"]) as residents:
            assert await residents.take("coins") is None
            assert not residents.usable
            assert residents.all == []

    run(work)
    assert len(lines) == FAILED_STARTS
    why = "(it ended by itself with exit code 3)"
    assert lines[-1] == f"Residents do not start {why}: flow runs get processes of their own"


def test_a_program_that_is_not_there_is_no_trouble(make, lines):
    async def work() -> None:
        async with make(command=["/no/such/program"]) as residents:
            assert await residents.take("coins") is None

    run(work)
    assert "Residents do not start" in lines[0]


def test_one_that_talks_nonsense_is_ended(make, lines):
    async def work() -> None:
        nonsense = "print('what?', flush=True); import time; time.sleep(99)"
        async with make(command=[sys.executable, "-c", nonsense]) as residents:
            assert await residents.take("coins") is None

    run(work)
    assert "what it reports cannot be read" in lines[0]


def test_the_end_of_all_ends_what_is_in_a_run(make):
    async def work() -> None:
        async with make() as residents:
            resident = await residents.take("coins")
            attempt = resident.begin({"hang": True})
        assert attempt.returncode == -signal.SIGTERM
        assert not psutil.pid_exists(resident.pid)

    run(work)


def test_half_of_the_memory_is_for_all_of_them():
    assert 0 < 4 * default_memory(2) <= psutil.virtual_memory().total
    assert default_memory(4) == pytest.approx(default_memory(2) / 2, abs=1)
