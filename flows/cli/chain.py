"""Commands that read chains: log, show, report, chains."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.cli.members.pages import report_panel
from flows.cli.output import FAILURE, Chain, Json, err, fitting, open_here, out, print_json, say, table
from lindley.ledger.record import Status
from lindley.names import divided, is_member
from lindley.report.numbers import MISSING, format_number
from lindley.report.tables import marked, not_counted
from lindley.report.text import counted, one_line
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.ledger.history import Link, LinkView

#: Columns that are left out, in this order, where a terminal is too narrow for whole cells. The worst
#: diagnostics are among the metrics.
_PARAMETERS_OPTIONAL = ("ESS bulk", "ESS tail", "R-hat", "sd ratio", "90% interval", "shift")
_CHAINS_OPTIONAL = ("version", "head", "created")
_STYLES = {
    Status.ACCEPTED: "green",
    Status.CANDIDATE: "magenta",
    Status.QUARANTINED: "yellow",
    Status.REJECTED: "dim",
    Status.SUPERSEDED: "dim",
}


def log(
    chain: Chain,
    every: Annotated[bool, typer.Option("--all", help="Also the versions that are no links.")] = False,
    as_json: Json = False,
) -> None:
    """List the links of a chain, newest first; of a panel's member those that changed it."""
    if is_member(chain):
        from flows.cli.members.one import log_member  # with the ledger's libraries

        log_member(chain, as_json)
        return
    from lindley.ledger.history import undecided, views_of, waiting  # with the ledger's libraries
    from lindley.ledger.reading import find_chain

    found = find_chain(open_here(), chain)
    lists = {"links": views_of(found, every=every)[::-1], "waiting": waiting(found)}
    lists["undecided"] = undecided(found)
    if as_json:
        print_json({"chain": chain} | {name: [asdict(one) for one in views] for name, views in lists.items()})
        return
    views = lists["links"]
    print_undecided(chain, lists["undecided"])
    print_waiting(lists["waiting"])
    print_log(chain, views)


def print_waiting(views: list[LinkView]) -> None:
    """Print which quarantined batches a chain does not count, with the reasons; nothing where none waits."""
    if not views:
        return
    say(f"[yellow]{escape(not_counted([view.origin for view in views]))}[/yellow]")
    for view in views:
        say(escape(f"version {view.version}, {view.origin}: {'; '.join(view.reasons)}"), indent=2)


def print_undecided(chain: str, views: list[LinkView]) -> None:
    """Print the candidates on which a person has to decide, and how; nothing where there is none."""
    for view in views:
        what = f"version {view.version} ({view.origin or view.kind}) is a candidate"
        todo = f"lindley approve {chain} {view.version} --why TEXT, or reject"
        if view.stale:
            todo = "the head moved since: fit it again, or reject it"
        say(f"[magenta]{escape(what)}[/magenta]: {escape(todo)}")


def print_log(chain: str, views: list[LinkView]) -> None:
    """Print links like commits: identity and status, then the batch and its fit, then amendments."""
    if not views:
        out.print(f"{escape(chain)} has no link yet.")
    for view in views:
        place = f"link {view.number}" if view.number else f"version {view.version}"
        accepted = "approved" if view.who else "gate passed"
        status = marked(accepted if view.status == Status.ACCEPTED else view.status, len(view.warnings))
        colour = "yellow" if view.warnings else _STYLES[view.status]
        created = view.created[:16].replace("T", " ")
        heading = f"[bold]{place:8}[/bold] [yellow]{view.record_digest[:12]}[/yellow]  {escape(view.kind)}"
        out.print(f"{heading}  [{colour}]{status}[/{colour}]  [dim]{escape(created)}[/dim]", soft_wrap=True)
        batch = (
            f"{view.origin}, {counted(view.rows, 'row')}" if view.batch_digest else view.origin or "no batch"
        )
        say(f"{escape(batch)}  [dim]{_fit(view)}[/dim]", indent=9, hang=0)
        for sentence in view.amendments:
            say(f"[cyan]{escape(sentence)}[/cyan]", indent=9)
        for reason in view.reasons:
            say(f"[yellow]{escape(reason)}[/yellow]", indent=9)


def _fit(view: LinkView) -> str:
    """Return the log predictive of the batch, the stated error and the worst diagnostics."""
    metrics = view.metrics
    ess = [metrics[name] for name in ("ess_bulk_min", "ess_tail_min") if name in metrics]
    parts = {
        "log predictive": format_number(metrics.get("log_predictive")),
        "in all": format_number(metrics.get("log_score"), digits=5),
        "stated error": format_number(metrics.get("stated_error"), digits=2),
        "R-hat": format_number(metrics.get("r_hat_max")),
        "ESS": format_number(min(ess, default=None), digits=3),
    }
    return "  ".join(f"{name} {value}" for name, value in parts.items() if value != MISSING)


def show(
    link: Annotated[str, typer.Argument(metavar="CHAIN[@head|@N]", help="Which link.", show_default=False)],
    as_json: Json = False,
) -> None:
    """Show a belief: its parameters and how they moved, diagnostics, digests, artifacts.

    Of a panel, `CHAIN[column=value,...]` is a member.
    """
    if is_member(link):
        from flows.cli.members.one import show_member  # with the ledger's libraries

        show_member(link, as_json)
        return
    from lindley.ledger.history import find_link  # with the ledger's libraries

    found = find_link(open_here(), link)
    if as_json:
        print_json(_link_document(found))
    else:
        _print_link(found)


def _link_document(link: Link) -> dict[str, Any]:
    from lindley.report.tables import parameter_values  # with the ledger's libraries

    return {
        **asdict(link.view),
        "chain": link.chain,
        "waiting": list(link.waiting),
        "parameters": parameter_values(link.summary()),
        "record": link.record,
        "artifacts": link.artifacts(),
    }


def _print_link(link: Link) -> None:
    from lindley.report.tables import parameter_rows  # with the ledger's libraries

    view, record = link.view, link.record
    out.print(f"[bold]{escape(link.chain)}[/bold] link {view.number}, version {view.version}, {view.kind}")
    gate = record["gate"]
    assessment = "[green]passed[/green]" if gate["passed"] else "[yellow]failed[/yellow]"
    batch = record["batch"]
    dropped = batch["dropped"] if batch else None
    left_out = f", {dropped['rows']} more were counted already" if dropped else ""
    lines = {
        "batch": f"{batch['origin']}, {batch['rows']} rows{left_out}, {batch['digest']}" if batch else "none",
        "record": view.record_digest,
        "previous": view.previous,
        "prior": view.prior,
        "run": view.run_id,
        "created": view.created,
    }
    for label, value in lines.items():
        say(f"{label:9}{escape(str(value))}", indent=2, hang=9)
    for sentence in view.amendments:
        say(f"{'counts':9}{escape(sentence)}", indent=2, hang=9)
    out.print(f"  {'gate':9}{assessment}")
    for sentence in (*gate["reasons"], *gate["warnings"]):
        say(f"[yellow]{escape(sentence)}[/yellow]", indent=11)
    if link.waiting:
        say(f"{'head':9}[yellow]{escape(not_counted(link.waiting))}[/yellow]", indent=2, hang=9)
    rows = parameter_rows(link.summary())
    rows = fitting(rows, _PARAMETERS_OPTIONAL, out.width)
    out.print()
    out.print(table(rows, right=[name for name in rows[0] if name != "parameter"] if rows else ()))
    out.print()
    metrics = [{"metric": name, "value": format_number(value)} for name, value in record["metrics"].items()]
    out.print(table(metrics, right=("value",)))
    held = link.artifacts()
    held |= {"all": sum(held.values())}
    sizes = [{"artifact": path, "bytes": f"{size:,}"} for path, size in held.items()]
    out.print()
    out.print(table(sizes, right=("bytes",)))


def report(
    chain: Chain,
    to: Annotated[
        Path | None, typer.Option("--out", help="The file, CHAIN.html by default.", show_default=False)
    ] = None,
    unverified: Annotated[
        bool, typer.Option("--unverified", help="Do not verify the chain on the way, which takes longer.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write the page of a chain, a panel or a member (CHAIN[store=12]) as one HTML file.

    It has beliefs, scores, links, warnings and the digests that they come from.

    The file is complete and opens anywhere. An existing one is replaced. Exit code 1: a rule is violated, and
    the page says which.
    """
    from flows.sequences.report import holds_panel, write_page  # with the ledger's libraries

    ledger = open_here()
    if is_member(chain) or holds_panel(ledger, chain):
        report_panel(ledger, chain, to, unverified=unverified, as_json=as_json)
        return
    path = to or Path(f"{chain}.html")
    content = write_page(ledger, chain, path, verify=not unverified)
    checked = content.verification
    if as_json:
        shown = {"chain": chain, "head": content.head.digest, "links": len(content.links), "file": str(path)}
        print_json(shown | {"ok": None if checked is None else checked.ok})
    else:
        state = "not verified" if checked is None else checked.message
        line = f"{path}: {counted(len(content.links), 'link')}; {state}"
        out.print(escape(line), soft_wrap=True)
    if checked is not None and not checked.ok:
        raise typer.Exit(FAILURE)


def chains(as_json: Json = False) -> None:
    """List all chains: those with links, and those that are only declared.

    A chain that cannot be read is listed with its problem, and hides no other.
    """
    from lindley.ledger.backend import has_ledger
    from lindley.ledger.history import views_of  # with the ledger's libraries
    from lindley.ledger.reading import find_chain
    from lindley.model.declaration import declared_chains

    ledger = open_here() if has_ledger(Workspace.from_environment()) else None
    names, others = divided(ledger.chains()) if ledger is not None else ([], [])
    rows: list[dict[str, Any]] = []
    problems: dict[str, str] = {}
    for name in names:
        assert ledger is not None  # noqa: S101  (for mypy: there are names)
        try:
            chain = find_chain(ledger, name)
            rows.append(_chain_row(name, views_of(chain), len(chain.waiting), len(chain.undecided)))
        except Exception as error:  # whatever is wrong with this chain, the others are listed
            problems[name] = one_line(str(error) or type(error).__name__, 300)
    known = {*names, *(name.replace("-", "_") for name in names)}
    declared = declared_chains(Workspace.from_environment().models)
    rows += [_chain_row(name, []) for name in declared if name not in known]
    if as_json:
        print_json({"chains": rows, "unreadable": problems, "not_chains": others})
        return
    for name, problem in problems.items():
        err.print(f"[red]{escape(name)} cannot be read: {escape(problem)}[/red]", soft_wrap=True)
    print_others(others)
    if rows:
        # A column for what is rare, only where there is any.
        without = {"candidates"} if not any(row["candidates"] for row in rows) else set()
        shown = [{key: _dash(value) for key, value in row.items() if key not in without} for row in rows]
        right = ("links", "warnings", "waiting", "candidates")
        out.print(table(fitting(shown, _CHAINS_OPTIONAL, out.width), right=right))
    else:
        out.print("There are no chains, and no declarations in the models folder.")


def print_others(names: list[str]) -> None:
    """Print the names of registered models that carry Lindley's tags and cannot be chains."""
    for name in names:
        message = f"The registered model '{name}' is no chain: no chain can have this name"
        err.print(f"[yellow]{escape(message)}[/yellow]", soft_wrap=True)


def _chain_row(name: str, links: list[LinkView], left: int = 0, undecided: int = 0) -> dict[str, Any]:
    head = links[-1] if links else None
    numbers = {"links": len(links), "warnings": len(head.warnings) if head else 0}
    numbers |= {"waiting": left, "candidates": undecided}
    shown = {"head": "record_digest", "version": "version", "batch": "origin", "created": "created"}
    values = {key: getattr(head, attribute, None) for key, attribute in shown.items()}
    return {"chain": name} | numbers | values


def _dash(value: Any) -> str:
    text = "-" if value is None else str(value)
    return text[:12] if len(text) == 64 else text[:16].replace("T", " ") if text[4:5] == "-" else text
