"""The command line: `lindley`. Heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import gc
from typing import Annotated

import typer

from flows.cli import amend, chain, rebase, runs, servers, update, verify
from flows.cli.output import command
from lindley import __version__

#: The commands, in the order of ``lindley --help``.
COMMANDS = (
    *(update.update, update.sweep, update.split, update.import_trace, update.demo),
    *(amend.retract, amend.correct, amend.rollback, amend.branch, amend.diff),
    *(chain.log, chain.show, chain.chains, runs.plots, runs.profile),
    *(verify.verify, verify.head, verify.sign, verify.keygen),
    *(rebase.rebase, rebase.audit, rebase.calibrate),
    *(servers.up, servers.ui, servers.worker, servers.watch),
)

app = typer.Typer(
    name="lindley",
    help=(
        "Sequential Bayesian updating with an auditable chain of posteriors.\n\n"
        "Exit codes: 0 done or nothing to do, 1 failed, 2 wrong input, 3 fitted but quarantined by the gate."
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


for function in COMMANDS:
    app.command("import" if function is update.import_trace else None)(command(function))


def main() -> None:
    """Run the command line."""
    # Imports make millions of objects and no garbage: a collection every 700 objects would take a tenth of
    # the time of a short command.
    gc.set_threshold(100_000)
    app()


if __name__ == "__main__":
    main()
