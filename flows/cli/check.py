"""Commands before the first link: `init` makes a working folder, `check` tries a model and a batch."""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows import environment
from flows.cli.output import Chain, Json, err, make_ready, notify, out, print_json, table
from flows.cli.sequence import existing
from lindley.errors import BatchUnreadable
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace

if TYPE_CHECKING:
    import xarray as xr

    from lindley.operations.checking.check import Check

#: Pictures that ``--out`` writes: of the prior predictive, and of a short fit.
PICTURES = ("prior_predictive.png", "posterior_predictive.png")


def init(
    folder: Annotated[Path, typer.Argument(help="The new working folder.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Make a working folder of your own: an example model with batches, deployments, README, CI file.

    It refuses a folder that has files of the same names, and overwrites nothing.
    """
    from flows.project.create import create_project

    written = [str(path) for path in create_project(folder)]
    if as_json:
        print_json({"folder": str(folder), "files": written})
        return
    for path in written:
        out.print(escape(path), soft_wrap=True)
    out.print(
        f"Next: cd {escape(str(folder))}, then lindley check daily_sales examples/week1.csv", soft_wrap=True
    )


def check(
    chain: Chain,
    file: Annotated[
        Path | None,
        typer.Argument(
            help="CSV or Parquet file; by default the oldest in the landing folder.", show_default=False
        ),
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--out", file_okay=False, help="Folder for pictures of prior and posterior predictive."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a model and a batch in seconds, without a ledger: what would be carried, and what refused.

    Nothing is sampled and nothing written, but with --out, which makes a short fit for its pictures.
    """
    workspace = environment.prepare(Workspace.from_environment(), quiet=True)
    declaration = load_declaration(chain, workspace.models)
    path = Path(existing(file)) if file is not None else _waiting(workspace, chain)
    if folder is not None:
        make_ready(folder, PICTURES, "The pictures have no place to go to")
    from flows.sequences.files import read_still  # with the landing folder's libraries
    from lindley.batch.reading import read_batch  # imports the numerical stack
    from lindley.operations.checking.check import check as checked
    from lindley.operations.checking.check import short_fit
    from lindley.panel.members import first_member

    batch = read_still(workspace, path, declaration, None, read_batch)
    if declaration.by:  # the model of a panel is that of one member
        batch, declaration = first_member(batch, declaration), declaration.member
    found = checked(declaration, batch)
    pictures = []
    if folder is not None:
        notify("A short fit for the pictures; its draws are not to be used")
        pictures = _draw(found, short_fit(declaration, batch), folder)
    if as_json:
        document = {"chain": chain, "file": path.name} | found.findings.as_dict()
        print_json(document | {"pictures": [str(picture) for picture in pictures]})
        return
    _print(found)
    for picture in pictures:
        out.print(escape(str(picture)), soft_wrap=True)


def _waiting(workspace: Workspace, chain: str) -> PurePath:
    """Return the oldest file in the chain's landing folder."""
    from flows.sequences.files import waiting  # with the landing folder's libraries

    files = waiting(workspace, chain)
    if not files:
        raise BatchUnreadable(
            f"There is no batch of {chain} to check",
            expected="a file as argument, or one in the landing folder",
            found="neither",
            todo=f"run `lindley check {chain} FILE`",
        )
    return files[0].path


def _draw(found: Check, fitted: xr.DataTree, folder: Path) -> list[Path]:
    """Draw the pictures that there are draws for; return their paths."""
    from lindley.report import figures  # imports matplotlib

    made = []
    titles = ("Prior predictive check", "Posterior predictive check (short fit)")
    for name, title, trace in zip(PICTURES, titles, (found.trace, fitted), strict=True):
        if "posterior_predictive" not in trace.children:
            continue
        try:
            figures.save(figures.predictive_figure(trace, title=title), folder / name)
        except Exception as error:  # whatever the drawing raises, the check stands
            err.print(f"{name} was not drawn: {escape(str(error))}", soft_wrap=True)
            continue
        made.append(folder / name)
    return made


def _print(found: Check) -> None:
    """Print what was found out."""
    from lindley.operations.checking.findings import range_rows  # with the numerical stack

    colour = "yellow" if found.findings.meaning.adds_up is False or found.findings.later else "green"
    for sentence in found.findings.lines():
        out.print(f"[{colour}]•[/{colour}] {escape(sentence)}", soft_wrap=True)
    rows = range_rows(found.findings)
    if rows:
        out.print()
        out.print("90% of the prior predictive draws, and of the batch:")
        out.print(table(rows, right=[name for name in rows[0] if name != "outcome"]))
