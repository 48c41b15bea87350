"""Which process writes a run, so that runs of killed processes can be told from runs that work."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_process() -> str:
    """Return host, process id and start time of this process, as one tag value."""
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def died(writer: str) -> bool:
    """Whether a writer was on this machine and is gone; other machines are never judged."""
    started = _noted_here(writer)
    return started is not None and started[0] != started[1]


def lives(process: str) -> bool:
    """Whether a process that `this_process` described was on this machine and still is."""
    started = _noted_here(process)
    return started is not None and started[0] == started[1]


def _noted_here(process: str) -> tuple[str, str] | None:
    """Return when a process of this machine was started, as noted and as found; None for other machines."""
    parts = process.rsplit(":", 2)
    if len(parts) != 3 or parts[0] != socket.gethostname() or not parts[1].isdigit():
        return None
    return parts[2], _started(int(parts[1]))


def _started(pid: int) -> str:
    """Return a process's start time in clock ticks since boot; empty when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    # A killed process that its parent has not waited for is still listed, as a zombie.
    return "" if fields[0] in {"Z", "X"} else fields[19]
