"""The program of a warm process: it imports everything, then carries out one flow run after the other.

Orders come as lines of JSON on standard input: ``{"run": {"environment": ..., "folder": ...}}``. Reports go
to standard output: ``{"ready": {"memory": bytes}}`` and ``{"ended": {"code": ..., "left": [...]}}``. What the
flows print goes to standard error. When standard input is closed the worker is gone, and the process ends at
once with everything that it started.
"""

from __future__ import annotations

import contextvars
import gc
import importlib
import json
import os
import pkgutil
import queue
import runpy
import signal
import sys
import threading
import warnings
from collections.abc import Mapping
from typing import IO, Any, NoReturn

import prefect.engine
import psutil  # type: ignore[import-untyped]
from prefect.events.worker import EventsWorker
from prefect.exceptions import TerminationSignal
from prefect.logging.handlers import APILogWorker
from prefect.utilities.engine import capture_sigterm

import lindley
import tasks
from flows.server.process_state import Before

#: The flows of the deployments.
FLOWS = ("flows.update", "flows.rebase", "flows.amend", "flows.approval.ask", "flows.sweep", "flows.verify")
#: Seconds that logs and events may take to reach the server.
FLUSH_SECONDS = 10.0


def main() -> None:
    """Carry out runs until standard input is closed."""
    orders, reports = _channels()
    waiting: queue.SimpleQueue[Mapping[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(orders, waiting), daemon=True, name="orders").start()
    import_all()
    before = Before()
    while True:
        gc.collect()
        _report(reports, "ready", memory=psutil.Process().memory_info().rss)
        order = waiting.get()["run"]
        code = _run(order, before)
        _report(reports, "ended", code=code, left=before.changed())


def import_all() -> None:
    """Import what a run may import on use; otherwise a run would leave changed settings behind."""
    for package in (lindley, tasks):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    for name in FLOWS:
        importlib.import_module(name)


def _channels() -> tuple[IO[str], IO[str]]:
    """Take standard input and output for orders and reports; runs get an empty input and standard error."""
    orders, reports = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), "w")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return orders, reports


def _listen(orders: IO[str], waiting: queue.SimpleQueue[Mapping[str, Any]]) -> None:
    """Queue orders; end this process when standard input is closed."""
    for line in orders:
        waiting.put(json.loads(line))
    _end_at_once()


def _end_at_once() -> NoReturn:
    """End this process and what it started, without a report."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _report(reports: IO[str], what: str, **values: Any) -> None:
    try:
        reports.write(json.dumps({what: values}) + "\n")
        reports.flush()
    except BrokenPipeError:
        _end_at_once()


def _run(order: Mapping[str, Any], before: Before) -> int:
    """Carry out a run as a process of its own would, and return the exit code of that process.

    Ends this process if the run was terminated: the state that it leaves behind is then unknown.
    """
    if sys.stdin.closed:  # Python's `exit`, with which the engine ends, closes it
        sys.stdin = open(os.devnull)  # noqa: SIM115, PTH123  (it stays open)
    os.environ.update(order["environment"])
    os.chdir(order["folder"])
    terminated = False
    code = 0
    try:
        with warnings.catch_warnings():
            contextvars.copy_context().run(_engine)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        terminated = isinstance(end.__context__, TerminationSignal)
    finally:
        # Send the logs and events of the run, as a process of its own does at its end.
        APILogWorker.drain_all(timeout=FLUSH_SECONDS)
        EventsWorker.drain_all(timeout=FLUSH_SECONDS)
    if terminated:
        os._exit(code)
    forget_control_channel()
    before.restore()
    return code


def forget_control_channel() -> None:
    """Forget the control channel of a run that ended before its flow started; the next run brings its own.

    Prefect forgets the address when the outermost `capture_sigterm` ends, which a flow enters when it starts.
    """
    with capture_sigterm():
        pass


def _engine() -> None:
    """Do what ``python -m prefect.engine`` does."""
    arguments, module = sys.argv, sys.modules.pop(prefect.engine.__name__)
    sys.argv = [prefect.engine.__name__]
    try:
        runpy.run_module(prefect.engine.__name__, run_name="__main__")
    finally:
        sys.argv = arguments
        sys.modules[prefect.engine.__name__] = module


if __name__ == "__main__":
    main()
