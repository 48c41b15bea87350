"""Commands about the runs behind links: plots, profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.cli.output import Chain, Json, open_here, out, print_json, table
from lindley.report.numbers import format_number
from lindley.timing import PLOTS

if TYPE_CHECKING:
    from lindley.operations.profile import Profile

#: Characters of a row beside the phases.
_OTHER_COLUMNS = 55


def plots(
    chain: Chain,
    link: Annotated[
        str, typer.Argument(help="Number of the link, beginning of its record's digest, or head.")
    ] = "head",
    into: Annotated[
        Path | None,
        typer.Option("--out", help="Write to this folder, not to the link's run.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Draw the plots of a link again, from its stored trace."""
    from lindley.ledger.reading import find_begun
    from lindley.ledger.references import choose_link  # with the ledger's libraries
    from lindley.operations.plots import draw_again, draw_into

    ledger = open_here()
    found = choose_link(find_begun(ledger, chain)[0], link)
    run_id, record = found.version.run_id, found.version.record
    if into is None:
        paths = list(draw_again(ledger, run_id, record))
    else:
        paths = [str(into / path) for path in draw_into(ledger, run_id, record, into)]
    if as_json:
        document = {"chain": chain, "link": found.number, "run_id": run_id, "plots": paths}
        print_json(document | {"folder": str(into) if into else None})
        return
    where = "below" if into is not None else f"in run {run_id}"
    out.print(f"Link {found.number} of {escape(chain)}: {len(paths)} plots {escape(where)}", soft_wrap=True)
    for path in paths:
        out.print(f"  {escape(path)}", soft_wrap=True)


def profile(
    chain: Chain,
    last: Annotated[
        int | None,
        typer.Option("--last", min=1, help="Show only this many of the newest links.", show_default=False),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the seconds of each phase of each link, newest last, and the medians.

    The total runs from reading the batch to the registered link. It includes the time between phases and
    excludes the plots, which are drawn later. ESS/s is the smallest ESS per second of sampling. Phases
    without room on the terminal are summed in `other`; --json lists every phase.
    """
    from lindley.operations.profile import profile as read  # with the ledger's libraries

    found = read(open_here(), chain, last)
    if as_json:
        print_json(found.as_dict())
    elif not found.lines:
        out.print(f"{escape(chain)} has no link yet.")
    else:
        rows = _rows(found)
        out.print(table(rows, right=[name for name in rows[0] if name != "kind"]))


def _rows(found: Profile) -> list[dict[str, str]]:
    shown = _shown(found)
    rows = [
        {"link": str(line.link), "kind": line.kind} | _cells(line.metrics(), shown) for line in found.lines
    ]
    return [*rows, {"link": "median", "kind": ""} | _cells(found.medians(), shown)]


def _shown(found: Profile) -> list[str]:
    """Return the phases with a column of their own: on a narrow terminal those that take longest."""
    phases, medians = found.phases(), found.medians()["seconds"]
    shortest = sorted(phases, key=lambda name: medians[name] or 0.0)
    while len(phases) > 1 and sum(max(len(name), 5) + 2 for name in phases) > out.width - _OTHER_COLUMNS:
        phases.remove(shortest.pop(0))
    return phases


def _cells(metrics: dict[str, Any], shown: list[str]) -> dict[str, str]:
    seconds = metrics["seconds"]
    cells = {name: _seconds(seconds.get(name)) for name in shown}
    # The rest of the total: phases without a column, and what is between the phases.
    rest = [value for name, value in seconds.items() if name not in (*shown, PLOTS) and value is not None]
    rest += [metrics["between"]] if metrics["between"] is not None else []
    cells |= {"other": _seconds(sum(rest) if rest else None), "total": _seconds(metrics["total"])}
    return cells | {
        "ESS min": format_number(metrics["ess_min"], digits=3),
        "ESS/s": format_number(metrics["ess_per_second"], digits=3),
    }


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
