"""Start child processes together and end them together, with their logs in files.

Each child has a session of its own, so Ctrl-C in a terminal reaches only the parent, which then ends the
children in order, with everything that they started. A parent that was killed leaves a list of its children,
from which the next parent ends those that still run.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from lindley import process as processes
from lindley.atomic import write_over

#: Seconds that a child may take to end after SIGTERM.
GRACE_SECONDS = 10.0


@dataclass(frozen=True)
class Child:
    """A child process.

    Parameters
    ----------
    name
        For messages and for its log file.
    process
        Its handle.
    log
        The file with its output.
    """

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def last_lines(self, count: int = 15) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-count:])


@dataclass
class Supervisor:
    """Starts children one after the other and ends them in reverse order.

    Parameters
    ----------
    folder
        For logs and the list of children; made if need be.
    """

    folder: Path
    children: list[Child] = field(default_factory=list)

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> Child:
        """Start a child; its previous log is kept as ``NAME.log.1``."""
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

    def wait_for(self, child: Child) -> int:
        """Wait until a child has ended by itself, and return its exit code."""
        code = child.process.wait()
        self.children.remove(child)
        return code

    def dead(self) -> Child | None:
        """Return a child that ended by itself, if there is one."""
        return next((child for child in self.children if child.process.poll() is not None), None)

    def end(self, *names: str) -> None:
        """End children of these names, the last one first, and everything that they started."""
        for child in [child for child in self.children[::-1] if child.name in names]:
            end_tree(child.process.pid)
            child.process.wait()
            self.children.remove(child)

    def stop(self) -> None:
        """End all children, the last one first, and everything that they started."""
        self.end(*(child.name for child in self.children))
        self._list.unlink(missing_ok=True)

    def end_leftovers(self) -> list[str]:
        """End the children of a parent that was killed; return their names."""
        ended = []
        for entry in self._remembered():
            # The start time counts: the id alone could by now belong to another process.
            if processes.lives(entry["process"]):
                end_tree(int(entry["process"].split(":")[-2]))
                ended.append(entry["name"])
        self._list.unlink(missing_ok=True)
        return ended

    @property
    def _list(self) -> Path:
        return self.folder / "processes.json"

    def _remember(self) -> None:
        entries = [
            {"name": child.name, "process": processes.describe(child.process.pid), "folder": str(self.folder)}
            for child in self.children
            if child.process.poll() is None
        ]
        write_over(json.dumps(entries, indent=2).encode(), self._list)

    def _remembered(self) -> list[dict[str, str]]:
        """Return the listed children; a list copied from another folder names processes that work there."""
        try:
            entries = json.loads(self._list.read_text(encoding="utf-8"))
            return [entry for entry in entries if entry["folder"] == str(self.folder)]
        except (OSError, ValueError, KeyError, TypeError):
            return []


def end_tree(pid: int, grace: float = GRACE_SECONDS) -> None:
    """End a process and its descendants: SIGTERM, from the leaves up, then SIGKILL to those that remain.

    Flow runs have sessions of their own and would outlive their worker.
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
