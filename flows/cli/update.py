"""Commands that change chains: update, pull, sweep, split, import, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows import environment
from flows.cli.output import (
    FAILURE,
    QUARANTINED,
    Chain,
    Json,
    err,
    notify,
    out,
    print_json,
    print_result,
    progress_bar,
    table,
)
from flows.cli.sequence import AcceptChange, Direct, How, existing, run
from flows.sequences import pull as pulls
from flows.sequences import update as sequences
from flows.sequences.result import OnOverlap
from flows.sequences.split import drop_batches
from lindley.workspace import Workspace


def update(
    chain: Chain,
    file: Annotated[Path, typer.Argument(help="CSV or Parquet file.", show_default=False)],
    direct: Direct = False,
    accept_model_change: AcceptChange = False,
    on_overlap: Annotated[
        OnOverlap, typer.Option(help="What becomes of rows whose key is counted already.")
    ] = "refuse",
    plots: Annotated[
        bool, typer.Option("--plots/--no-plots", help="With --direct: draw the link's plots in the end.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Turn a batch into a new link of a chain. Exit code 3: fitted, but quarantined or a candidate."""
    if not plots and not direct:
        raise typer.BadParameter("only together with --direct", param_hint="--no-plots")
    path = existing(file)
    how = How(direct, plots=plots)
    print_result(run(how, sequences.update, chain, path, accept_model_change, on_overlap), as_json)


def pull(
    chain: Chain,
    direct: Direct = False,
    accept_model_change: AcceptChange = False,
    again: Annotated[
        bool, typer.Option("--again", help="Compare all rows, also where the source has not changed.")
    ] = False,
    rejected: Annotated[
        bool, typer.Option("--rejected", help="Bring back rows that a person rejected.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Turn what is new or revised at a chain's source into links. Exit code 3: one was quarantined."""
    how = How(direct, flow="update.pull")
    print_result(run(how, pulls.pull, chain, accept_model_change, again, rejected), as_json)


def sweep(
    chain: Annotated[str | None, typer.Argument(help="Only this chain.", show_default=False)] = None,
    as_json: Json = False,
) -> None:
    """Take every file in the landing folder, oldest first. Exit code 1: a file or a chain failed."""
    workspace = environment.prepare(Workspace.from_environment(), quiet=True)
    from flows.inprocess import run_flow  # imports Prefect

    with progress_bar("sweep") as progress:
        swept = run_flow(workspace, progress, "sweep.sweep", chain)
    if as_json:
        print_json(swept.as_dict())
    elif swept.rows:
        out.print(table(swept.rows))
    else:
        out.print("Nothing in the landing folder.")
    for name, error in swept.failed.items():
        err.print(f"[red]{escape(name)} stopped: {escape(str(error))}[/red]", soft_wrap=True)
    statuses = {row["status"] for row in swept.rows}
    if swept.failed or "rejected" in statuses:
        raise typer.Exit(FAILURE)
    if {"quarantined", "candidate"} & set(statuses):
        raise typer.Exit(QUARANTINED)


def split(
    chain: Chain,
    source: Annotated[str, typer.Argument(help="Path or URL of the upstream data.", show_default=False)],
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many batches.")] = None,
    as_json: Json = False,
) -> None:
    """Cut an upstream source into batches and drop them into the landing folder, oldest first."""
    paths = drop_batches(Workspace.from_environment(), chain, source, limit)
    if as_json:
        print_json({"chain": chain, "files": paths})
        return
    for path in paths:
        out.print(escape(path), soft_wrap=True)
    notify(f"{len(paths)} batches; `lindley sweep {chain}` takes them, or `lindley up` does")


def import_trace(
    chain: Chain,
    trace: Annotated[Path, typer.Argument(help="NetCDF file that ArviZ or PyMC3 wrote.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Start a chain from an existing trace; its first link has the kind `import`."""
    from flows.sequences.import_trace import import_trace as sequence  # imports the numerical stack

    print_result(run(How(True, name="import"), sequence, chain, trace), as_json)


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything goes.")] = Path("demo-output"),
    as_json: Json = False,
) -> None:
    """Run the 1978 boarding-school influenza chain from genesis to head."""
    from flows.cli.demo import show  # sets the environment before Prefect is imported

    show(folder.resolve(), as_json)
