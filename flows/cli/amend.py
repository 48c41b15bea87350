"""Commands that change what a chain counts, decide on candidates, branch it, or compare beliefs."""

from __future__ import annotations

import getpass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from flows import environment
from flows.cli.output import Chain, Json, out, print_json, print_result, table
from flows.cli.sequence import AcceptChange, Direct, How, existing, run
from flows.sequences import amend as sequences
from lindley.names import is_member
from lindley.report.numbers import format_interval, format_number, format_pair, format_ratio, format_shift
from lindley.workspace import Workspace

_Why = Annotated[str, typer.Option("--why", help="Why: part of the record.")]
_Who = Annotated[str, typer.Option("--who", help="Your name; by default that of your account.")]
_Version = Annotated[
    str,
    typer.Argument(
        help="Version number, or its record's digest; the only candidate by default.", show_default=False
    ),
]
_BATCH = "Link number (3 or @3), batch digest (8 characters or more) or file name."


def retract(
    chain: Chain,
    batches: Annotated[list[str], typer.Argument(metavar="BATCH...", help=_BATCH, show_default=False)],
    direct: Direct = False,
    accept_model_change: AcceptChange = False,
    as_json: Json = False,
) -> None:
    """Let batches no longer count: a new link, as if they had never come. Exit code 3: quarantined."""
    result = run(How(direct), sequences.retract, chain, batches, accept_model_change)
    print_result(result, as_json)


def correct(
    chain: Chain,
    old: Annotated[str, typer.Argument(metavar="OLD", help=_BATCH, show_default=False)],
    new: Annotated[
        Path,
        typer.Argument(
            metavar="NEW", help="CSV or Parquet file, not in the landing folder.", show_default=False
        ),
    ],
    direct: Direct = False,
    accept_model_change: AcceptChange = False,
    as_json: Json = False,
) -> None:
    """Let a file count in the place of a batch: a new link. Exit code 3: quarantined by the gate."""
    path = existing(new)
    result = run(How(direct), sequences.correct, chain, old, path, accept_model_change)
    print_result(result, as_json)


def rollback(
    chain: Chain,
    link: Annotated[str, typer.Argument(help="Link number, or its record's digest.", show_default=False)],
    direct: Direct = False,
    as_json: Json = False,
) -> None:
    """Go back to the belief of an earlier link: a new link, after which later batches do not count."""
    print_result(run(How(direct), sequences.rollback, chain, link), as_json)


def branch(
    link: Annotated[str, typer.Argument(metavar="CHAIN[@LINK]", help="Where.", show_default=False)],
    name: Annotated[str, typer.Argument(help="The branch is called CHAIN--NAME.", show_default=False)],
    direct: Direct = False,
    as_json: Json = False,
) -> None:
    """Start a what-if chain from any link; the chain itself stays as it is."""
    chain, _, place = link.partition("@")
    print_result(run(How(direct), sequences.branch, chain, place or "head", name), as_json)


def approve(
    chain: Chain,
    why: _Why,
    version: _Version = "",
    who: _Who = "",
    direct: Direct = False,
    as_json: Json = False,
) -> None:
    """Let a candidate, or a quarantined version, become the head: a new link that states who approved it."""
    name = who or getpass.getuser()
    print_result(run(How(direct), sequences.approve, chain, version, name, why), as_json)


def reject(
    chain: Chain,
    why: _Why,
    version: _Version = "",
    who: _Who = "",
    direct: Direct = False,
    as_json: Json = False,
) -> None:
    """Record that a candidate, or a quarantined version, does not become the head."""
    name = who or getpass.getuser()
    print_result(run(How(direct), sequences.reject, chain, version, name, why), as_json)


def diff(
    a: Annotated[str, typer.Argument(metavar="CHAIN[@N]", help="One belief.", show_default=False)],
    b: Annotated[str, typer.Argument(metavar="CHAIN[@M]", help="The other.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Compare two beliefs: parameters, how far apart they are, which batches only one of them counts.

    Of panels, `CHAIN[column=value,...]@N` is a member.
    """
    workspace = environment.prepare(Workspace.from_environment(), quiet=True, prefect=False)
    from lindley.ledger.backend import open_ledger
    from lindley.operations.diff import diff as compare  # imports the numerical stack
    from lindley.operations.panel.diff import diff_members

    members = is_member(a) and is_member(b)
    ledger = open_ledger(workspace, create=False)
    found = (diff_members if members else compare)(ledger, a, b).as_dict()
    if as_json:
        print_json(found)
        return
    rows = [_row(row) for row in found["parameters"]]
    out.print(table(rows, right=[name for name in rows[0] if name != "parameter"] if rows else ()))
    for side in ("a", "b"):
        if found[f"only_{side}"]:
            out.print(f"Only in {side}: {escape(', '.join(found[f'only_{side}']))}", soft_wrap=True)
    out.print(
        f"Joint over {found['coordinates']} carried coordinates: "
        f"Hellinger {format_number(found['hellinger'], digits=3)}, "
        f"Jeffreys {format_number(found['divergence'], digits=3)} nats"
    )
    for side, words in (("a", "only in a"), ("b", "only in b")):
        for batch in found["batches"][side]:
            where = f"link {batch['link']}, {batch['origin']}"
            line = f"{words}: {where}, {batch['rows']} rows, {batch['digest'][:12]}"
            out.print(escape(line), soft_wrap=True)
    both = len(found["batches"]["both"])
    out.print(f"{both} batch{'' if both == 1 else 'es'} in both.")
    if not found["same_model"]:
        out.print("[yellow]The code of the models differs.[/yellow]")


def _row(row: dict[str, Any]) -> dict[str, str]:
    """Return a parameter of both as text."""
    mean, sd, low, high = (
        {side: row[f"{side}_{name}"] for side in "ab"} for name in ("mean", "sd", "q05", "q95")
    )
    return {
        "parameter": row["parameter"],
        **{side: format_pair(mean[side], sd[side]) for side in "ab"},
        **{f"{side} 90%": format_interval(low[side], high[side], sd[side]) for side in "ab"},
        "shift": format_shift(row["shift"]),
        "sd ratio": format_ratio(row["sd_ratio"]),
        "distance": format_number(row["distance"], digits=2),
    }
