"""Child processes that live and die together, with their logs in files.

Each child has a session of its own, so Ctrl-C in a terminal reaches only the parent, which then ends
the children in order, and whatever those started. A parent that was killed leaves a list behind from
which the next one ends what is left.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from lindley.atomic import write_over

#: Seconds that a child may take to end after SIGTERM.
GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Child:
    """A running child.

    Parameters
    ----------
    name
        What it is, for people.
    process
        Its handle.
    log
        Where its output goes.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_lines(self, count: int = 15) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


@dataclass
class Family:
    """Children that are started one after the other and ended in reverse.

    Parameters
    ----------
    folder
        For logs and the list of children; made if need be.
    """

    folder: Path
    children: list[Child] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Child:
        """Start a child; the log of the last time is kept as ``NAME.log.1``."""
        logs = self.folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        log = logs / f"{name}.log"
        if log.exists():
            log.replace(logs / f"{name}.log.1")
        with log.open("wb") as output:
            process = subprocess.Popen(
                list(command),
                env=dict(environment),
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        child = Child(name, process, log)
        self.children.append(child)
        self._remember()
        return child

    def dead(self) -> Child | None:
        """Return a child that ended by itself, if there is one."""
        return next((child for child in self.children if child.process.poll() is not None), None)

    def end(self, name: str) -> None:
        """End a child and everything that it started; nothing when there is none of that name."""
        for child in [child for child in self.children if child.name == name]:
            end_tree(child.process.pid)
            child.process.wait()
            self.children.remove(child)

    def stop(self) -> None:
        """End all children, the last one first, and everything that they started."""
        while self.children:
            child = self.children.pop()
            end_tree(child.process.pid)
            child.process.wait()
        self._list.unlink(missing_ok=True)

    def end_leftovers(self) -> list[str]:
        """End the children of a parent that was killed; return their names."""
        ended = []
        # A list that came with a copy of another folder names processes that work there.
        for entry in [entry for entry in _read(self._list) if entry["folder"] == str(self.folder)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(int(entry["process"]))
                # The number alone could by now belong to somebody else's process.
                if abs(process.create_time() - float(entry["started"])) < 1.0:
                    end_tree(process.pid)
                    ended.append(str(entry["name"]))
        self._list.unlink(missing_ok=True)
        return ended

    @property
    def _list(self) -> Path:
        return self.folder / "processes.json"

    def _remember(self) -> None:
        entries = []
        for child in self.children:
            with contextlib.suppress(psutil.NoSuchProcess):
                started = psutil.Process(child.process.pid).create_time()
                entry = {"name": child.name, "process": child.process.pid, "started": started}
                entries.append(entry | {"folder": str(self.folder)})
        write_over(json.dumps(entries, indent=2).encode(), self._list)


def _read(path: Path) -> list[dict[str, Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [entry for entry in entries if {"name", "process", "started", "folder"} <= set(entry)]


def end_tree(pid: int, grace: float = GRACE_SECONDS) -> None:
    """End a process and everything below it: SIGTERM, from the leaves up, and SIGKILL to what stays.

    Flow runs have sessions of their own and outlive their worker otherwise.
    """
    try:
        root = psutil.Process(pid)
        tree = [*root.children(recursive=True)[::-1], root]
    except psutil.NoSuchProcess:
        return
    for process in tree:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(tree, timeout=grace)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=grace)
