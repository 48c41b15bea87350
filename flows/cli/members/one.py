"""What log, show and verify print of one member of a panel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows.cli.output import Json, open_here, out, print_json, say, table
from lindley.errors import ProofRefused
from lindley.report.numbers import format_number, format_pair

if TYPE_CHECKING:
    import pandas as pd

    from lindley.panel.link import Member, PanelLink

_STYLES = {"accepted": "green", "quarantined": "yellow", "withdrawn": "cyan"}


def find_panel(reference: str) -> PanelLink:
    """Return a link of a panel in the working folder's ledger."""
    from lindley.ledger.history import find_link  # with the ledger's libraries
    from lindley.panel.link import panel_link

    return panel_link(find_link(open_here(), reference))


def find_member(text: str) -> Member:
    """Return a member in the working folder's ledger by its text form."""
    from lindley.panel.key import parse_member  # with the ledger's libraries

    name, key, place = parse_member(text)
    return find_panel(f"{name}@{place}" if place else name).member(key)


def log_member(text: str, as_json: bool) -> None:
    """Print the links that changed a member, newest first."""
    found = find_member(text)
    rows = [
        {
            "link": row.link,
            "status": row.status,
            "conflict": row.conflict,
            "leaf": row.hash.hex(),
            "prior": row.prior,
            "batch": row.batch,
            "reasons": row.attempt["reasons"],
        }
        for row in found.reader.history(found.row)
    ]
    if as_json:
        print_json({"chain": found.chain, "key": found.row.key.document, "links": rows})
        return
    for row in rows:
        colour, conflict = _STYLES[row["status"]], format_number(row["conflict"])
        heading = f"[bold]link {row['link']:<3}[/bold] [yellow]{row['leaf'][:12]}[/yellow]"
        out.print(f"{heading}  [{colour}]{row['status']}[/{colour}]  conflict {conflict}", soft_wrap=True)
        for reason in row["reasons"]:
            say(f"[yellow]{escape(reason)}[/yellow]", indent=9)


def show_member(text: str, as_json: bool) -> None:
    """Print a member's belief, and the fit of its last rows."""
    found = find_member(text)
    summary = found.summary()
    if as_json:
        shown = {"chain": found.chain, "leaf": found.row.leaf, "hash": found.row.hash.hex()}
        print_json(shown | found.row.results)
        return
    out.print(f"[bold]{escape(str(found))}[/bold]", soft_wrap=True)
    for reason in found.reasons:
        say(f"[yellow]{escape(reason)}[/yellow]", indent=2)
    say(f"leaf     {found.row.hash.hex()}", indent=2)
    say(f"sampler  {escape(str(found.row.attempt['sampler'] or 'none'))}", indent=2)
    if len(summary):
        out.print(table(_parameters(summary)))
    metrics = [{"metric": name, "value": format_number(value)} for name, value in found.metrics.items()]
    out.print(table(metrics, right=("value",)))


def _parameters(summary: pd.DataFrame) -> list[dict[str, str]]:
    """Return a member's parameters as rows of a table."""
    return [
        {
            "parameter": str(label),
            "mean ± sd": format_pair(row["mean"], row["sd"]),
            "90% interval": f"{format_number(row['q05'])} to {format_number(row['q95'])}",
        }
        for label, row in summary.iterrows()
    ]


def check_proof(
    proof: Annotated[
        Path | None, typer.Option("--proof", help="Check only what `lindley prove` wrote, without its panel.")
    ] = None,
    root: Annotated[
        str | None, typer.Option("--root", help="With --proof: the root, or the record, that you trust.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a proof without its panel, and print what it proves.

    Raises
    ------
    ProofRefused
        If it is none, does not lead to its root, or that is not the root that is expected.
    """
    if proof is None:
        raise typer.BadParameter("needs the file of a proof", param_hint="--proof")
    from lindley.panel.proof import read_proof  # with the numerical stack

    try:
        data = proof.read_bytes()
    except OSError as error:
        raise ProofRefused(
            f"The proof {proof.name} cannot be read",
            found=error.strerror or str(error),
            todo="correct the path",
        ) from error
    held = read_proof(data)
    if root is not None and root not in (held.root, held.record):
        raise ProofRefused(
            "The proof leads to another root than the one that you trust",
            expected=f"root or record {root[:80]}",
            found=f"root {held.root} of record {held.record}",
            todo="ask for a proof of the member in the link whose root you have",
        )
    document, leaf = held.document, held.document["leaf"]
    if as_json:
        print_json({"ok": True, "member": held.member, "trusted": root is not None} | document)
        return
    out.print(
        f"[green]proved[/green] {escape(held.member)}: {leaf['status']}, written in link {leaf['link']}"
    )
    lines = {"root": held.root, "record": held.record, "link": document["link"], "matched": leaf["matched"]}
    for label, value in lines.items():
        say(f"{label:9}{escape(str(value))}", indent=2)
    if root is None:
        say("Compare root or record with one that you trust (--root): a proof alone proves itself.", indent=2)
