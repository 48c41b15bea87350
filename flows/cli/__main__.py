"""The command line: `lindley`. Heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import atexit
import gc
import inspect
from typing import Annotated

import typer

from flows.cli import amend, chain, check, rebase, runs, serve, servers, status, update, verify
from flows.cli.members import commands
from flows.cli.output import command
from lindley import __version__

#: The modules of the commands, in the order of ``lindley --help``. Their public functions with the parameter
#: `as_json` are the commands.
MODULES = (update, check, amend, chain, commands, runs, verify, serve, rebase, servers, status)

app = typer.Typer(
    name="lindley",
    help=(
        "Sequential Bayesian updating with an auditable chain of posteriors.\n\n"
        "Exit codes: 0 done or nothing to do, 1 failed, 2 wrong input, 3 fitted, but the head "
        "did not move: quarantined by the gate, or a candidate that a person has to approve."
    ),
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Sequential Bayesian updating with an auditable chain of posteriors."""


for module in MODULES:
    for name, function in list(vars(module).items()):
        own = inspect.isfunction(function) and function.__module__ == module.__name__
        if own and not name.startswith("_") and "as_json" in inspect.signature(function).parameters:
            app.command(name.removesuffix("_trace"))(command(function))


def main() -> None:
    """Run the command line."""
    # Imports make millions of objects and no garbage: a collection every 700 objects would take a tenth of
    # the time of a short command.
    gc.set_threshold(100_000)
    # Nor is there any at the end: Python's last collections over everything would take a quarter of it.
    atexit.register(gc.freeze)
    app()


if __name__ == "__main__":
    main()
