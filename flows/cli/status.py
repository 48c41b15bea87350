"""The command that monitoring runs: status."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows import environment
from flows.cli.output import Json, out, print_json, say, table
from flows.monitoring.status import Level, Limits, hours
from flows.monitoring.status import status as found_out
from lindley.atomic import write_over
from lindley.names import printable
from lindley.report.text import counted
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from flows.monitoring.status import Status

_COLOURS = {Level.OK: "green", Level.WARNING: "yellow", Level.CRITICAL: "red"}
_LIMITS = Limits()


def status(
    head_age: Annotated[
        float, typer.Option(min=0, help="Hours after which an old newest link is a warning; 0 for never.")
    ] = _LIMITS.head_age,
    verification_age: Annotated[
        float, typer.Option(min=0, help="Hours after which an old verification is a warning; 0 for never.")
    ] = _LIMITS.verification_age,
    landing_age: Annotated[
        float, typer.Option(min=0, help="Hours that a file may wait in the landing folder.")
    ] = _LIMITS.landing_age,
    rejected_age: Annotated[
        float, typer.Option(min=0, help="Hours for which a rejected file is a warning.")
    ] = _LIMITS.rejected_age,
    disk_warning: Annotated[
        float, typer.Option(min=0, help="GiB free below which it is a warning.")
    ] = _LIMITS.disk_warning / 2**30,
    disk_critical: Annotated[
        float, typer.Option(min=0, help="GiB free below which it is critical.")
    ] = _LIMITS.disk_critical / 2**30,
    prometheus: Annotated[
        Path | None,
        typer.Option(help="Write metrics in Prometheus' text format to this file; - prints them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show how this installation is; exit code 0: ok, 1: a warning, 2: critical.

    Servers, worker and watcher, the age of each chain's newest link, files that wait or were rejected,
    quarantined batches, the last verification, disks. Only reads, and needs no server.
    """
    limits = Limits(
        head_age=head_age,
        verification_age=verification_age,
        landing_age=landing_age,
        rejected_age=rejected_age,
        disk_warning=disk_warning * 2**30,
        disk_critical=disk_critical * 2**30,
    )
    workspace = environment.prepare(Workspace.from_environment(), quiet=True, prefect=False)
    found = found_out(workspace, limits, datetime.now(UTC))
    if prometheus is not None:
        from flows.monitoring.prometheus import exposition  # other commands need no metrics

        text = exposition(found)
        if str(prometheus) == "-":
            print(text, end="")
        else:  # whole or not at all: the collector may read at any time
            write_over(text.encode(), prometheus)
    elif as_json:
        print_json(found.as_dict())
    else:
        _print(found)
    if found.level.code:
        raise typer.Exit(found.level.code)


_RIGHT = ("links", "warnings", "quarantined", "candidates")


def _print(found: Status) -> None:
    level = found.level
    out.print(f"[bold {_COLOURS[level]}]{level}[/bold {_COLOURS[level]}]")
    for finding in found.findings:
        colour = _COLOURS[finding.level]
        say(f"[{colour}]{finding.level}[/{colour}] {escape(f'{finding.what}: {finding.message}')}", indent=2)
    for name, server in found.servers.items():
        answers = {None: "used without a server", True: "answers", False: "does not answer"}
        address = f" at {server['address']}" if server["address"] else ""
        say(f"{name:8}{escape(answers[server['answers']] + address)}", indent=2)
    alive = [name for name, lives in found.processes.items() if lives]
    workers = "" if found.workers is None else f"; {counted(found.workers, 'worker')} online"
    say(f"{'up':8}{escape(', '.join(alive) or '`lindley up` does not run here')}{workers}", indent=2)
    files = found.files
    say(f"{'files':8}{files['waiting']} in the landing folder, {files['rejected']} rejected", indent=2)
    for folder, space in found.disks.items():
        size = f"{space['free'] / 2**30:.1f} of {space['total'] / 2**30:.1f} GiB free"
        say(f"{'disk':8}{escape(f'{size}, {printable(folder)}')}", indent=2)
    if found.chains:
        out.print()
        out.print(table([_line(row) for row in found.chains], right=_RIGHT))


def _line(row: dict[str, Any]) -> dict[str, Any]:
    age, verified = row["head_age"], row["verified_age"]
    result = {True: "ok", False: "failed", None: "never"}[row["verified"]]
    return {
        "chain": row["chain"],
        "links": row["links"],
        "newest": "-" if age is None else f"{hours(age)} ago",
        "warnings": row["warnings"],
        "quarantined": row["quarantined"],
        "candidates": row["candidates"],
        "verified": result if verified is None else f"{result}, {hours(verified)} ago",
    }
