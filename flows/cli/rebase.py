"""Commands that check a chain as a whole, or fit it anew: rebase, audit, calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows import environment
from flows.cli.output import (
    FAILURE,
    Chain,
    Json,
    make_ready,
    out,
    print_json,
    print_result,
    progress_bar,
    table,
)
from flows.cli.sequence import AcceptChange, Direct, How, run
from flows.sequences import rebase as sequences
from lindley.model.declaration import load_declaration
from lindley.names import is_member
from lindley.report.numbers import format_number
from lindley.report.tables import audit_rows
from lindley.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

#: Rows of an audit that are printed; JSON and `--out` have all.
_SHOWN = 200
#: What `lindley audit --out` writes.
AUDIT_FILES = ("audit.csv", "audit.png")


def rebase(
    chain: Chain, direct: Direct = False, accept_model_change: AcceptChange = False, as_json: Json = False
) -> None:
    """Fit all batches of a chain together and register the result. Exit code 3: quarantined by the gate."""
    _refit(How(direct), chain, accept_model_change, as_json)


def audit(
    chain: Chain,
    folder: Annotated[
        Path | None,
        typer.Option("--out", file_okay=False, help="Folder for audit.csv and its plot audit.png."),
    ] = None,
    direct: Direct = False,
    accept_model_change: AcceptChange = False,
    as_json: Json = False,
) -> None:
    """Compare a chain with the pooled fit of all its batches; registers nothing.

    Of a panel, `CHAIN[column=value,...]` is one member.
    """
    member = None
    if is_member(chain):
        from lindley.panel.key import parse_member  # with the ledger's libraries

        chain, key, _ = parse_member(chain)
        member = key.canonical.decode()
    _refit(How(direct, name="audit"), chain, accept_model_change, as_json, folder, member=member)


def _refit(
    how: How,
    chain: str,
    accept: bool,
    as_json: bool,
    folder: Path | None = None,
    *,
    member: str | None = None,
) -> None:
    audit = how.name == "audit"
    if folder is not None:
        load_declaration(chain, Workspace.from_environment().models)  # a wrong name makes no folder
        make_ready(folder, AUDIT_FILES, "The audit has no place to go to")
    result = run(how, sequences.rebase, chain, audit, accept, member)
    if folder is not None:
        _write(result.rows, chain, folder)
    # Of a panel, those that differ most are first.
    rows = audit_rows(_frame(result.rows[:_SHOWN])) if result.rows else []
    print_result(result, as_json, table(rows, right=("sequential", "pooled", "error", "sd ratio")))


def _write(rows: list[dict[str, Any]], chain: str, folder: Path) -> None:
    """Write an audit's table and plot into a folder."""
    from lindley.report import figures  # imports matplotlib

    found = _frame(rows)
    found.to_csv(folder / AUDIT_FILES[0])
    figure = figures.audit_figure(found, title=f"{chain}: sequential against pooled")
    figures.save(figure, folder / AUDIT_FILES[1])


def _frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Return an audit's rows as the table that they are of."""
    import pandas as pd  # imported where there is an audit, to save start-up time

    return pd.DataFrame(rows).set_index("parameter").astype(float)


def calibrate(
    chain: Chain,
    updates: Annotated[int, typer.Option(min=1, help="Updates of each simulated chain.")] = 5,
    simulations: Annotated[int, typer.Option(min=20, help="Simulated chains.")] = 100,
    seed: Annotated[int, typer.Option(min=0, help="Seed of everything random.")] = 0,
    as_json: Json = False,
) -> None:
    """Posterior SBC: are the chain's next posteriors calibrated? Exit code 1: ranks are not uniform.

    Parameters are drawn from the head's belief, batches are simulated from them in the shape of the
    newest ones, and the chain goes on with these batches, in memory. The rank of the true parameters
    among the posterior's draws is uniform if matching and sampling are right.
    """
    workspace = environment.prepare(Workspace.from_environment(), quiet=True, prefect=False)
    declaration = load_declaration(chain, workspace.models)
    with progress_bar(f"calibrate {chain}") as progress:
        from lindley.inference import sbc  # imports the numerical stack
        from lindley.inference.inputs import Options
        from lindley.ledger.backend import open_ledger
        from lindley.ledger.lineage import newest_data

        belief, data = newest_data(open_ledger(workspace, create=False), declaration)
        options = Options(seed=seed, progress=progress)
        found = sbc.calibrate(belief, data, options, updates=updates, simulations=simulations)
    if as_json:
        print_json(found.as_dict())
    else:
        result = "[green]uniform[/green]" if found.uniform else "[red]not uniform[/red]"
        out.print(f"Ranks of {found.simulations} chains of {found.updates} updates: {result}")
        rows = [{"parameter": name, "p": format_number(p, digits=3)} for name, p in found.p_values.items()]
        out.print(table(rows, right=("p",)))
        out.print(f"Level {found.level:g} over all parameters together (Bonferroni).")
    if not found.uniform:
        raise typer.Exit(FAILURE)
