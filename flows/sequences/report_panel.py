"""Read what the pages of a panel and of a member show; see `flows.sequences.report`."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from pathlib import Path

from flows.sequences.report import verified
from lindley import __version__
from lindley.atomic import write_over
from lindley.ledger.history import find_link, views_of
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_begun
from lindley.ledger.record import digest
from lindley.names import is_member
from lindley.panel.index import Entry
from lindley.panel.key import MemberKey, member_text, parse_member, read_key
from lindley.panel.link import PanelLink, panel_link
from lindley.panel.row import ACCEPTED
from lindley.report.page.members import (
    MOST_IN_FILE,
    MOST_LISTED,
    MemberEntry,
    MemberPage,
    MemberStep,
    PanelLinkRow,
    PanelPage,
    render_member,
    render_panel,
)


def read_panel(
    ledger: Ledger,
    name: str,
    written: str,
    *,
    verify: bool = True,
    wanted: str = "",
    first: int = 0,
    most: int = MOST_IN_FILE,
) -> PanelPage:
    """Read what the page of a panel shows.

    Parameters
    ----------
    ledger, name, written
        Where it is, its name, and when the page is written, ISO 8601 in UTC.
    verify
        Whether the panel is verified on the way.
    wanted, first, most
        Text that the members' keys contain, place of the first one in the table, and how many it has.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain, or it has no link.
    PanelRefused
        If it holds one belief.
    LedgerCorrupt
        If a file is not the one that its record lists.
    """
    chain, genesis = find_begun(ledger, name)
    views = views_of(chain)
    head = panel_link(find_link(ledger, name))
    entries = sorted(head.index.entries().values(), key=lambda entry: entry.key)
    shown = [entry for entry in entries if wanted.casefold() in _text(head, entry).casefold()]
    first = min(max(first, 0), max(len(shown) - 1, 0)) // most * most
    return PanelPage(
        chain=name,
        genesis=digest(genesis),
        by=head.by,
        record=head.record,
        links=tuple(
            PanelLinkRow(
                number=view.number or 0,
                kind=view.kind,
                created=view.created,
                batch=view.origin if view.batch_digest else "",
                rows=view.rows,
                metrics=view.metrics,
                warnings=view.warnings,
                sentences=tuple(view.amendments),
                digest=view.record_digest,
            )
            for view in views
        ),
        groups=_groups(head, entries),
        members=tuple(_entry(head, entry) for entry in shown[first : first + most]),
        found=len(shown),
        first=first,
        wanted=wanted,
        waiting=tuple(version.origin for version in chain.waiting),
        verification=verified(ledger, name) if verify else None,
        written=written,
        lindley=__version__,
    )


def read_member(ledger: Ledger, name: str, key: MemberKey, written: str, *, place: str = "") -> MemberPage:
    """Read what the page of a member shows, as of the head or of the link that `place` names.

    Raises
    ------
    UnknownChain, UnknownLink, MemberRefused
        If there is no such panel or member.
    LedgerCorrupt
        If a row is not the one that the next names.
    """
    link = panel_link(find_link(ledger, f"{name}@{place}" if place else name))
    found = link.member(key)
    rows = link.reader.history(found.row)
    records = {view.number: view.record_digest for view in views_of(find_begun(ledger, name)[0])}
    steps = tuple(
        MemberStep(
            link=row.link,
            record=records[row.link],
            status=row.status,
            conflict=row.conflict,
            leaf=row.hash.hex(),
            prior=row.prior,
            batch=row.batch,
            reasons=tuple(row.attempt["reasons"]),
            summary=row.state["summary"] if row.state is not None else {},
        )
        for row in reversed(rows)
    )
    return MemberPage(
        chain=name,
        text=member_text(name, found.row.key),
        head=link.view.number or 0,
        record=link.view.record_digest,
        root=link.record["panel"]["root"],
        steps=steps,
        metrics=found.metrics,
        written=written,
        lindley=__version__,
    )


def write_panel(ledger: Ledger, name: str, written: str, path: Path, *, verify: bool = True) -> PanelPage:
    """Write the page of a panel as a file; return what it shows. See `read_panel`."""
    page = read_panel(ledger, name, written, verify=verify)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_over(render_panel(page).encode(), path)
    return page


def write_member(ledger: Ledger, text: str, written: str, path: Path) -> MemberPage:
    """Write the page of a member as a file; return what it shows. See `read_member`."""
    name, key, place = parse_member(text)
    page = read_member(ledger, name, key, written, place=place)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_over(render_member(page).encode(), path)
    return page


def read_name(text: str) -> str:
    """Return the name of a file for the page of a chain or member: the key's characters may be any."""
    if not is_member(text):
        return text
    name, key, _ = parse_member(text)
    return f"{name}-{digest(key.canonical)[:12]}"


def _groups(head: PanelLink, entries: list[Entry]) -> dict[str, tuple[tuple[MemberEntry, ...], int]]:
    """Return the members to look at: the worst, conflicted, failed, and moved ones."""
    level, number = head.record["thresholds"]["conflict_warn"], head.view.number
    measured = [entry for entry in entries if entry.conflict is not None]
    worst = heapq.nsmallest(MOST_LISTED, measured, key=lambda entry: (entry.conflict or 0.0, entry.key))
    conflicted = [entry for entry in measured if (entry.conflict or 0.0) < level]
    conflicted.sort(key=lambda entry: (entry.conflict or 0.0, entry.key))
    groups = {
        "Strongest conflict with their prior": (worst, len(worst)),
        f"Conflict below {level:g}": (conflicted, len(conflicted)),
    }
    for title, chosen in (
        ("Failed or withdrawn", [entry for entry in entries if entry.status != ACCEPTED]),
        (f"Moved in the head, link {number}", [entry for entry in entries if entry.link == number]),
    ):
        groups[title] = (chosen, len(chosen))
    return {title: (_listed(head, chosen), count) for title, (chosen, count) in groups.items()}


def _listed(head: PanelLink, entries: Iterable[Entry]) -> tuple[MemberEntry, ...]:
    return tuple(_entry(head, entry) for entry in list(entries)[:MOST_LISTED])


def _text(head: PanelLink, entry: Entry) -> str:
    return str(read_key(entry.key, head.by))


def _entry(head: PanelLink, entry: Entry) -> MemberEntry:
    return MemberEntry(
        text=_text(head, entry),
        key=entry.key,
        status=entry.status,
        link=entry.link,
        conflict=entry.conflict,
        leaf=entry.leaf.hex(),
    )
