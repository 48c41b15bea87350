"""Run a module of Prefect's with Lindley's packages, whatever the working folder holds.

    python -P -m flows.server.prefect_module prefect.engine

Prefect looks for the module of a flow in the current folder first. There a folder `flows` or `tasks` of the
user's own would take the place of Lindley's, unless these are imported already.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence

import flows
import lindley
import tasks

#: What is not looked for again.
PACKAGES = (flows, tasks, lindley)


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of Prefect's in a process of its own."""
    return [sys.executable, "-P", "-m", "flows.server.prefect_module", module, *arguments]


def main(arguments: Sequence[str]) -> None:
    """Run a module with arguments, as ``python -m`` does."""
    sys.argv = list(arguments)
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(sys.argv[1:])
