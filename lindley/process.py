"""Describe processes, so that a process that was killed is distinguished from one that still works."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def describe(pid: int | None = None) -> str:
    """Return host, id and start time of a process of this machine (this one by default), as a tag value."""
    pid = pid or os.getpid()
    return f"{socket.gethostname()}:{pid}:{_started(pid)}"


def died(process: str) -> bool:
    """Whether a described process was on this machine and has ended; False for other machines."""
    return lives(process) is False


def lives(process: str) -> bool | None:
    """Whether a described process still runs; None if it was on another machine, which cannot be asked."""
    parts = process.rsplit(":", 2)
    if len(parts) != 3 or parts[0] != socket.gethostname() or not parts[1].isdigit():
        return None
    return parts[2] == _started(int(parts[1]))


def _started(pid: int) -> str:
    """Return a process's start time in clock ticks since boot; empty when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    # A killed process that its parent has not waited for is still listed, as a zombie.
    return "" if fields[0] in {"Z", "X"} else fields[19]
