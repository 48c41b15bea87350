"""Commands on the members of panels: members, prove."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape

from flows.cli.members.one import find_panel
from flows.cli.output import Json, out, print_json, table
from lindley.errors import ProofRefused
from lindley.report.numbers import format_number

if TYPE_CHECKING:
    import pandas as pd


def members(
    chain: Annotated[str, typer.Argument(metavar="CHAIN[@head|@N]", help="Which link.", show_default=False)],
    status: Annotated[
        Literal["accepted", "quarantined", "withdrawn"] | None,
        typer.Option(help="Only members with this status."),
    ] = None,
    sort: Annotated[
        Literal["key", "conflict", "link"],
        typer.Option(help="By key; by conflict, the worst first; or by link, the newest first."),
    ] = "key",
    top: Annotated[int | None, typer.Option(min=1, help="Only the first so many.")] = None,
    as_json: Json = False,
) -> None:
    """List the members of a panel: what became of their last rows, and in which link."""
    link = find_panel(chain)
    held = _sorted(link.members(), link.by, sort)
    chosen = held if status is None else held[held["status"] == status]
    shown = chosen.head(top) if top is not None else chosen
    rows = [{str(name): _plain(value) for name, value in row.items()} for row in shown.to_dict("records")]
    if as_json:
        about = {"chain": link.chain, "link": link.view.number, "record": link.view.record_digest}
        print_json(about | {"root": link.record["panel"]["root"], "members": rows, "of": len(held)})
        return
    counts = link.record["panel"]["counts"]
    changed = f"{counts['changed']:,} changed, {counts['quarantined']:,} quarantined, {counts['new']:,} new"
    out.print(
        f"[bold]{escape(link.chain)}[/bold] link {link.view.number}: {len(held):,} members; {changed}",
        soft_wrap=True,
    )
    if rows:
        printed = [row | {"conflict": format_number(row["conflict"])} for row in rows]
        out.print(table(printed, right=("link", "conflict")))
    if len(rows) < len(chosen):
        out.print(f"{len(rows):,} of {len(chosen):,}")


def prove(
    member: Annotated[
        str, typer.Argument(metavar="CHAIN[column=value,...]", help="Which member.", show_default=False)
    ],
    to: Annotated[Path | None, typer.Option("--out", help="A new file; by default it is printed.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="The proof is JSON anyway; errors are too.")
    ] = False,
) -> None:
    """Prove what a panel holds of a member: JSON of at most 2 KB, for `lindley verify --proof`."""
    from lindley.atomic import write_new
    from lindley.panel.key import parse_member  # with the ledger's libraries

    name, key, place = parse_member(member)
    data = find_panel(f"{name}@{place}" if place else name).prove(key)
    if to is None:
        print(data.decode())
    elif not write_new(data, to):
        raise ProofRefused(
            f"{to.name} exists already", expected="the name of a new file", found=str(to), todo="name another"
        )


def _sorted(held: pd.DataFrame, by: tuple[str, ...], sort: str) -> pd.DataFrame:
    if sort == "key" or not len(held):
        return held.sort_values(list(by), ignore_index=True)
    return held.sort_values(sort, ascending=sort == "conflict", na_position="last", ignore_index=True)


def _plain(value: Any) -> Any:
    """Return a cell as JSON writes it: nothing for a missing number."""
    return None if isinstance(value, float) and math.isnan(value) else value
