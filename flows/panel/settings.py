"""How the members of a panel are fitted on this machine or a cluster: settings from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from lindley.errors import PanelRefused
from lindley.panel.shards import MOST_SHARDS

#: Names of the settings.
ENGINE, ADDRESS, WORKERS, SHARDS, FOLDER = (
    f"LINDLEY_PANEL_{name}" for name in ("ENGINE", "ADDRESS", "WORKERS", "SHARDS", "FOLDER")
)
PROCESSES, RAY, DASK = "processes", "ray", "dask"
#: Members that are worth a process of their own, which takes as long to start as some tens of fits.
_WORTH = 100


@dataclass(frozen=True)
class PanelSettings:
    """How shards are run.

    Parameters
    ----------
    engine
        ``processes``, ``ray`` or ``dask``: the task runner of a flow. Without Prefect there are processes.
    address
        Of a Ray or Dask cluster; empty for one on this machine.
    workers
        Processes on this machine.
    shards
        Number of shards; None to choose it by the number of members.
    folder
        Folder for the work of the shards, which all workers of a cluster can read and write; empty for a
        temporary one of this machine.
    """

    engine: str = PROCESSES
    address: str = ""
    workers: int = 1
    shards: int | None = None
    folder: str = ""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> PanelSettings:
        """Read ``LINDLEY_PANEL_ENGINE``, ``_ADDRESS``, ``_WORKERS``, ``_SHARDS`` and ``_FOLDER``.

        Raises
        ------
        PanelRefused
            If one of them is none of its values.
        """
        held = os.environ if environment is None else environment
        engine = held.get(ENGINE) or PROCESSES
        if engine not in (PROCESSES, RAY, DASK):
            raise _refused(ENGINE, f"{PROCESSES}, {RAY} or {DASK}", engine)
        return cls(
            engine=engine,
            address=held.get(ADDRESS, ""),
            workers=_number(held, WORKERS, 256) or len(os.sched_getaffinity(0)),
            shards=_number(held, SHARDS, MOST_SHARDS),
            folder=held.get(FOLDER, ""),
        )

    def shards_for(self, members: int) -> int:
        """Return the number of shards of so many members."""
        if self.shards is not None:
            return self.shards
        # Several a worker, so that one with slow members does not hold up the others.
        most = 4 * self.workers if self.engine == PROCESSES else MOST_SHARDS
        return max(1, min(most, MOST_SHARDS, ceil(members / _WORTH)))


def _number(held: Mapping[str, str], name: str, most: int) -> int | None:
    text = held.get(name, "")
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text) <= most:
        raise _refused(name, f"a number from 1 to {most}", text)
    return int(text)


def _refused(name: str, expected: str, found: str) -> PanelRefused:
    return PanelRefused(
        f"The setting {name} was refused",
        expected=expected,
        found=repr(found)[:80],
        todo="correct the environment variable, or remove it",
    )
