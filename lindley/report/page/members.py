"""The pages of a panel and of a member as HTML; see `lindley.report.page.render`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np

from lindley.report.numbers import MISSING, QUANTILES, format_number
from lindley.report.page.charts import Marks, fan
from lindley.report.page.content import Verification
from lindley.report.page.render import MOST_CHARTS, template

#: Members of one page of the table of all members that a server shows.
PAGE_MEMBERS = 50
#: Members in the tables of those that moved, failed or conflicted, at most.
MOST_LISTED = 20
#: Members in the table of a file, which cannot be paged.
MOST_IN_FILE = 1000
#: Newest links in the table of a panel's links.
MOST_LINKS = 60


@dataclass(frozen=True, kw_only=True)
class MemberEntry:
    """A member in a table.

    Parameters
    ----------
    text, key
        Its key as a person writes it, and as canonical JSON.
    status, link, conflict, leaf
        What became of its last rows, in which link, their conflict, and the hash of its leaf.
    """

    text: str
    key: str
    status: str
    link: int
    conflict: float | None
    leaf: str


@dataclass(frozen=True, kw_only=True)
class PanelLinkRow:
    """A link of a panel in its table: as the registry states it."""

    number: int
    kind: str
    created: str
    batch: str
    rows: int
    metrics: Mapping[str, float]
    warnings: tuple[str, ...]
    sentences: tuple[str, ...]
    digest: str


@dataclass(frozen=True, kw_only=True)
class PanelPage:
    """A panel as its page shows it.

    Parameters
    ----------
    chain, genesis, by
        Name, digest of the genesis record, columns of a member's key.
    record
        The head's record, checked against its digest.
    links
        In order; the last one is the head.
    groups
        Members by title: those that moved in the head, failed, conflicted, the worst; each with how many
        there are in all, of which the first are listed.
    members, found, first, wanted
        Members of the table, how many were found, the place of the first one, and the text searched for.
    waiting
        Files of quarantined batches of the whole panel that the head does not count.
    verification
        None where it was left out.
    """

    chain: str
    genesis: str
    by: tuple[str, ...]
    record: Mapping[str, Any]
    links: tuple[PanelLinkRow, ...]
    groups: Mapping[str, tuple[tuple[MemberEntry, ...], int]]
    members: tuple[MemberEntry, ...]
    found: int
    first: int = 0
    wanted: str = ""
    waiting: tuple[str, ...] = ()
    verification: Verification | None = None
    written: str
    lindley: str


@dataclass(frozen=True, kw_only=True)
class MemberStep:
    """A link that changed a member.

    Parameters
    ----------
    link, record
        Its number, and the digest of its record.
    status, conflict, leaf, prior, batch, reasons
        As the member's row states them.
    summary
        Mean, sd and quantiles by parameter; empty where the member has no belief.
    """

    link: int
    record: str
    status: str
    conflict: float | None
    leaf: str
    prior: str | None
    batch: str | None
    reasons: tuple[str, ...]
    summary: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, kw_only=True)
class MemberPage:
    """A member as its page shows it: the links that changed it, oldest first."""

    chain: str
    text: str
    head: int
    record: str
    root: str
    steps: tuple[MemberStep, ...]
    metrics: Mapping[str, float]
    written: str
    lindley: str


def render_panel(page: PanelPage, *, live: bool = False) -> str:
    """Return the page of a panel: `live` where a server shows its members and pages of them too."""
    counts, thresholds = page.record["panel"]["counts"], page.record["thresholds"]
    head = page.links[-1]
    facts = [
        ("head", f"link {head.number}, {head.kind}, {head.created[:16].replace('T', ' ')} UTC"),
        ("record of the head", head.digest),
        ("root over all members", page.record["panel"]["root"]),
        ("members", f"{counts['members']:,} by {', '.join(page.by)}"),
        (
            "in the head",
            f"{counts['changed']:,} moved, {counts['quarantined']:,} failed, {counts['new']:,} new",
        ),
        ("warning level of conflict", format_number(thresholds.get("conflict_warn"))),
        ("genesis record", page.genesis),
        ("written", f"{page.written[:19].replace('T', ' ')} UTC by Lindley {page.lindley}"),
    ]
    last = page.first + len(page.members)
    return template("panel.html.j2").render(
        page=page,
        live=live,
        facts=facts,
        head=head,
        links=list(reversed(page.links))[:MOST_LINKS],
        last=last,
        before=max(page.first - PAGE_MEMBERS, 0) if page.first else None,
        after=last if last < page.found else None,
        number=format_number,
        quoted=lambda text: quote(text, safe=""),
    )


def render_member(page: MemberPage, *, live: bool = False) -> str:
    """Return the page of a member."""
    newest = page.steps[-1]
    names = list(newest.summary or next((step.summary for step in reversed(page.steps) if step.summary), {}))
    numbers = [step.link for step in page.steps]
    return template("member.html.j2").render(
        page=page,
        live=live,
        newest=newest,
        charts=[(name, _member_fan(page.steps, numbers, name)) for name in names[:MOST_CHARTS]],
        rows=[_parameter(name, values) for name, values in newest.summary.items()],
        steps=list(reversed(page.steps)),
        number=format_number,
        metrics=[(name, format_number(value)) for name, value in page.metrics.items()],
    )


def _member_fan(steps: Sequence[MemberStep], numbers: Sequence[int], name: str) -> str:
    gap = [math.nan] * len(QUANTILES)
    table = [
        [step.summary[name].get(q, math.nan) for q in QUANTILES] if name in step.summary else gap
        for step in steps
    ]
    return fan(numbers, np.array(table), Marks())


def _parameter(name: str, values: Mapping[str, float]) -> dict[str, str]:
    columns = {"mean": "mean", "sd": "sd", "5%": "q05", "median": "q50", "95%": "q95"}
    found = {title: format_number(values.get(column)) for title, column in columns.items()}
    return {"parameter": name} | {title: text if text else MISSING for title, text in found.items()}
