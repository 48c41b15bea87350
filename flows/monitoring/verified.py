"""What the last verification of each chain found, kept in the working folder for `lindley status`."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from lindley.atomic import write_over
from lindley.names import printable
from lindley.report.text import one_line
from lindley.verification.check import Checked
from lindley.workspace import Workspace


@dataclass(frozen=True)
class Verification:
    """The result of a verification.

    Parameters
    ----------
    at
        When it ended, in ISO 8601.
    ok
        Whether no error was found.
    links
        Number of links.
    record
        Record digest of the head; empty without a link.
    message
        The result in one sentence.
    complete
        Whether every link was read in full, and not only what is new since a statement.
    """

    at: str
    ok: bool
    links: int
    record: str
    message: str
    complete: bool


def remember_verification(workspace: Workspace, checked: Checked) -> None:
    """Keep the result of a verification, where the working folder has a place for it and can be written.

    A copy that is only read stays as it is.
    """
    folder, report = workspace.root / ".lindley", checked.report
    if not folder.is_dir():
        return
    found = Verification(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        ok=report.ok,
        links=len(report.links),
        record=str(report.links[-1]["record"]) if report.links else "",
        message=checked.message,
        complete=not report.vouched,
    )
    with suppress(OSError):
        (folder / "verified").mkdir(exist_ok=True)
        write_over(json.dumps(asdict(found)).encode(), _file(workspace, report.chain))


def last_verification(workspace: Workspace, chain: str) -> Verification | None:
    """Return what the last verification of a chain found; None where none is known."""
    try:
        found = json.loads(_file(workspace, chain).read_bytes())
        datetime.fromisoformat(str(found["at"]))
        return Verification(
            at=str(found["at"]),
            ok=found["ok"] is True,
            links=int(found["links"]),
            record=str(found["record"]),
            message=one_line(printable(str(found["message"])), 300),
            complete=found["complete"] is True,
        )
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def _file(workspace: Workspace, chain: str) -> Path:
    return workspace.root / ".lindley" / "verified" / f"{chain}.json"
