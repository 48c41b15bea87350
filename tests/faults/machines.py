"""Machines of one's own on this one: a host name, processes and a user of their own; needs root.

A machine is a Linux namespace (unshare) with another host name and other process ids, and a user of its own.
It writes with `tests.faults.writers`: cheap fits, genuine links.

    python -m tests.faults.machines WORK.json    what runs on the machine: prints what it did as JSON
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from flows.sequences.files import waiting
from lindley import failpoints
from lindley.errors import LindleyError
from tests.faults import writers
from tests.faults.writers import Done, Place, Work

ROOT = Path(__file__).parents[2]
#: Seconds after which a machine counts as hung.
PATIENCE = 600


@dataclass(frozen=True)
class Machine:
    """A host name, a user and a folder of its own.

    Parameters
    ----------
    name, uid
        Host name, and number of the user.
    root
        Its working folder, which belongs to the user.
    uri
        Address of the ledger.
    """

    name: str
    uid: int
    root: Path
    uri: str

    def place(self, chain: str) -> Place:
        """Return the place of a chain on it."""
        return Place(self.root, self.uri, chain)

    def own(self, path: Path | None = None) -> None:
        """Give a path, and what is below it, to its user; by default its folder."""
        path = path or self.root
        for held in [path, *path.rglob("*")]:
            os.chown(held, self.uid, self.uid, follow_symlinks=False)

    def start(self, chain: str, work: Work | None = None, prepare: str = "") -> subprocess.Popen[str]:
        """Let it take the files that landed for a chain, oldest first; `prepare` runs before, as root."""
        task = self.root / f"{chain}.json"
        given = asdict(work or Work())
        task.write_text(json.dumps({"root": str(self.root), "uri": self.uri, "chain": chain, "work": given}))
        os.chown(task, self.uid, self.uid)
        # The shell stays: the first process of a namespace cannot kill itself.
        command = f"hostname {self.name}\n{prepare}\n{_reachable()}setpriv --reuid {self.uid} "
        command += f"--regid {self.uid} --clear-groups --no-new-privs "
        command += f'"{sys.executable}" -P -m tests.faults.machines "{task}" || exit $?'
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("LINDLEY", "PREFECT", "MLFLOW"))}
        return subprocess.Popen(
            ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "sh", "-ec", command],
            env=clean | {"HOME": str(self.root), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
                         "TMPDIR": "/tmp"},
            cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def take(self, chain: str, work: Work | None = None, prepare: str = "") -> dict[str, Any]:
        """Do so and wait for it; return what it did, by file, and what it said."""
        return finished(self.start(chain, work, prepare))


def finished(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a machine; return what it did. None was killed."""
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err[-3000:]
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    return found


def _reachable() -> str:
    """Return commands that let other users reach Python and the repository, in this namespace only."""
    wanted = [Path(sys.base_prefix), Path(sys.prefix), ROOT]
    lines = list[str]()
    for number, closed in enumerate(sorted({c for path in wanted for c in _closed(path)})):
        kept = [path for path in dict.fromkeys(wanted) if path.is_relative_to(closed)]
        for place, path in enumerate(kept):
            lines += [f'mkdir -p "$S/{number}-{place}"', f'mount --bind "{path}" "$S/{number}-{place}"']
        lines.append(f'mount -t tmpfs -o mode=755 none "{closed}"')
        for place, path in enumerate(kept):
            lines += [f'mkdir -p "{path}"', f'mount --bind "$S/{number}-{place}" "{path}"']
    return "\n".join(["mount --make-rprivate /", "S=$(mktemp -d)", "mount -t tmpfs none $S", *lines, ""])


def _closed(path: Path) -> list[Path]:
    """Return the topmost folder above a path that others cannot enter, if there is one."""
    above = [folder for folder in reversed([path, *path.parents]) if not folder.stat().st_mode & 0o001]
    return above[:1]


def made(names: list[str], uri: str = "") -> list[Machine]:
    """Return machines with a folder each, in a folder that others may enter; skips where there can be none.

    Without an address all have the embedded ledger of the first.
    """
    tried = ["unshare", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "setpriv", "--reuid", "20001"]
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    if not all(map(shutil.which, ("unshare", "setpriv", "mount"))):
        pytest.skip("util-linux is not installed")
    done = subprocess.run([*tried, "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this container makes no namespaces: {done.stderr.strip()}")
    folder = Path(tempfile.mkdtemp(prefix="lindley-machines-"))
    folder.chmod(0o755)
    uri = uri or f"sqlite:///{folder / names[0] / 'mlflow.db'}"
    found = [Machine(name, 20001 + number, folder / name, uri) for number, name in enumerate(names)]
    for machine in found:
        machine.root.mkdir()
        machine.own()
    return found


def main(path: str) -> None:
    """Take all files that wait for the chain of a task, and print what became of them.

    As in a sweep, the files behind one that fails for a reason that is not its own wait."""
    task = json.loads(Path(path).read_text(encoding="utf-8"))
    place = Place(Path(task["root"]), task["uri"], task["chain"])
    work, done, said, became = Work(**task["work"]), Done(), list[str](), dict[str, str]()
    steps = dataclasses.replace(writers._steps(place, work, done), notify=said.append)
    for number, arrival in enumerate(waiting(place.workspace, place.chain)):
        if number == work.armed_from:
            failpoints.arm(work.failpoint)
        try:
            became[arrival.path.name] = writers._take(steps, place, arrival.path, done)
        except LindleyError as error:
            became[arrival.path.name] = f"failed: {error}"
            break
    print(json.dumps({"became": became, "said": said, "fits": done.fits}))


if __name__ == "__main__":
    main(sys.argv[1])
