"""Describe processes, so that a process that was killed is distinguished from one that still works."""

from __future__ import annotations

import hashlib
import os
import socket
from functools import cache
from pathlib import Path

#: Characters of a digest of what identifies a machine: they only have to differ.
_DIGITS = 8
#: Processes of the machine itself, outside of any container: this number is fixed in the Linux kernel.
_NO_CONTAINER = "4026531836"


def describe(pid: int | None = None) -> str:
    """Return machine, id and start time of a process of this machine, this one by default, as a tag value."""
    pid = pid or os.getpid()
    return f"{_machine()}:{pid}:{_started(pid)}"


def died(process: str) -> bool:
    """Whether a described process was on this machine and has ended; False for other machines."""
    return lives(process) is False


def lives(process: str) -> bool | None:
    """Whether a described process still runs; None if it was on another machine, which cannot be asked.

    Containers that share a host name are different machines: process ids of one say nothing in another.
    """
    parts = process.rsplit(":", 2)
    if len(parts) != 3 or not parts[1].isdigit():
        return None
    if parts[0] == _machine():
        return parts[2] == _started(int(parts[1]))
    return False if _ended_with_the_boot(parts[0]) else None


@cache  # a process neither changes its namespace nor lives through a boot
def _machine() -> str:
    """Return what identifies this machine as long as its process ids mean the same.

    Its host name; a digest of its installation's id; the number of its boot; and the number of the namespace
    of process ids, in which a container differs from its host and from others on it.
    """
    name, identity = socket.gethostname(), _read("/etc/machine-id")
    # The id itself is to stay on its machine (machine-id(5)).
    known = hashlib.sha256(f"lindley {identity}".encode()).hexdigest()[:_DIGITS] if identity else ""
    boot = _read("/proc/sys/kernel/random/boot_id").replace("-", "")[:_DIGITS]
    return f"{name}/{known}/{boot}/{_namespace()}"


def _ended_with_the_boot(machine: str) -> bool:
    """Whether a machine is this one before it was started again: no process of then is left.

    Not of containers, which are replaced and not started again, nor of a machine without an id of its
    installation. Copies of a virtual machine need an id each, as for other programs
    (``systemd-machine-id-setup``).
    """
    theirs, ours = machine.rsplit("/", 3), _machine().rsplit("/", 3)
    same = len(theirs) == 4 and theirs[:2] == ours[:2] and bool(ours[1])
    return same and theirs[2] != ours[2] and theirs[3] == ours[3] == _NO_CONTAINER


def _namespace() -> str:
    """Return the number of the namespace of this process's id; empty where the system has none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()).partition("[")[2].rstrip("]")
    except OSError:
        return ""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        return ""


def _started(pid: int) -> str:
    """Return a process's start time in clock ticks since boot; empty when there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    # A killed process that its parent has not waited for is still listed, as a zombie.
    return "" if fields[0] in {"Z", "X"} else fields[19]
