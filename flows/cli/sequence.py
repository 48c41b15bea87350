"""How every command that changes a chain runs: in Prefect, or directly.

A command, its flow and its sequence have one name and the same parameters: `flows.cli.amend.retract` runs
the flow `flows.amend.retract`, or with ``--direct`` the sequence `flows.sequences.amend.retract`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Concatenate

import typer

from flows import environment
from flows.cli.output import notify, progress_bar
from flows.sequences.files import check_name
from flows.sequences.result import Result
from flows.sequences.steps import Steps
from lindley.errors import BatchUnreadable
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace

Direct = Annotated[bool, typer.Option("--direct", help="Without Prefect.")]
AcceptChange = Annotated[
    bool, typer.Option("--accept-model-change", help="Go on although the model's code is not the head's.")
]


@dataclass(frozen=True)
class How:
    """How a command runs a sequence.

    Parameters
    ----------
    direct
        Without Prefect.
    plots
        Whether the plots of new links are drawn; only without Prefect.
    name
        What the progress bar calls it; the sequence's name by default.
    flow
        Module and name of its flow in `flows`, where they are not those of the sequence.
    """

    direct: bool
    plots: bool = True
    name: str = ""
    flow: str = ""


def run[**P](
    how: How,
    sequence: Callable[Concatenate[Steps, Workspace, str, P], Result],
    chain: str,
    *given: P.args,
    **options: P.kwargs,
) -> Result:
    """Run a sequence on a chain, with a progress bar."""
    workspace = environment.prepare(Workspace.from_environment(), quiet=True, prefect=not how.direct)
    load_declaration(chain, workspace.models)  # a wrong name is reported at once, before servers start
    with progress_bar(f"{how.name or sequence.__name__} {chain}") as progress:
        if how.direct:
            from flows.direct import core_steps  # imports the numerical stack

            steps = core_steps(progress, notify, plots=how.plots)
            return sequence(steps, workspace, chain, *given, **options)
        from flows.inprocess import run_flow  # imports Prefect

        module = sequence.__module__.rpartition(".")[2]
        name = how.flow or f"{module}.{sequence.__name__}"
        found: Result = run_flow(workspace, progress, name, chain, *given, **options)
        return found


def existing(file: Path) -> str:
    """Return the absolute path of a file, or of a folder of Parquet files.

    Raises
    ------
    BatchUnreadable
        If there is neither.
    BatchRefused
        If its name cannot be recorded.
    """
    path = Path(os.path.abspath(file))  # noqa: PTH100  (`resolve` would follow a link to the file)
    if not path.is_file() and not path.is_dir():
        raise BatchUnreadable(
            f"There is no file {file.name}",
            expected="a CSV or Parquet file",
            found=f"nothing at {path}" if not path.exists() else f"{path} is not a file",
            todo="correct the path",
        )
    check_name(path)
    return str(path)
