"""Processes that start in milliseconds: forked from one that has imported everything and opened nothing."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext

START_SECONDS = 120
#: One list for all tests: the server of forks is started once in a session, by whichever test needs it first.
_PRELOAD = ["tests.contract.processes", "tests.faults.writers"]


def context() -> ForkServerContext:
    """Return a source of such processes."""
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(_PRELOAD)
    return processes
