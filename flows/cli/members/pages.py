"""What report writes of a panel and of a member."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from flows.cli.output import FAILURE, out, print_json
from lindley.names import is_member
from lindley.report.text import counted

if TYPE_CHECKING:
    from lindley.ledger.protocol import Ledger


def report_panel(ledger: Ledger, chain: str, to: Path | None, *, unverified: bool, as_json: bool) -> None:
    """Write the page of a panel, or of a member of one, as a file, and print where."""
    from flows.sequences.report_panel import read_name, write_member, write_panel  # the ledger's libraries

    now = datetime.now(UTC).isoformat()
    path = to or Path(f"{read_name(chain)}.html")
    if is_member(chain):
        member = write_member(ledger, chain, now, path)
        if as_json:
            newest = member.steps[-1]
            print_json(
                {"member": member.text, "leaf": newest.leaf, "record": member.record, "file": str(path)}
            )
        else:
            line = f"{path}: {member.text}, {counted(len(member.steps), 'link')}"
            out.print(escape(line), soft_wrap=True)
        return
    page = write_panel(ledger, chain, now, path, verify=not unverified)
    checked = page.verification
    if as_json:
        shown = {"chain": chain, "head": page.links[-1].digest, "members": page.found, "file": str(path)}
        print_json(shown | {"ok": None if checked is None else checked.ok})
    else:
        state = "not verified" if checked is None else checked.message
        out.print(escape(f"{path}: {counted(page.found, 'member')}; {state}"), soft_wrap=True)
    if checked is not None and not checked.ok:
        raise typer.Exit(FAILURE)
