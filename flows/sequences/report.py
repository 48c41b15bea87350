"""Write the page of a chain: what its ledger holds, each piece checked against its digest."""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lindley import __version__
from lindley.addresses import public
from lindley.atomic import write_over
from lindley.errors import LindleyError, UnknownLink, not_of_panels
from lindley.ledger.chain import Chain, ChainLink
from lindley.ledger.history import Link, LinkView, views_of
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_begun, genesis_of
from lindley.ledger.record import Artifact, Status, digest, parse
from lindley.model.code.stored import stored_files
from lindley.names import divided
from lindley.operations.plots import draw_into
from lindley.report.page.content import LinkContent, LinkPage, OtherVersion, PageContent, Verification
from lindley.report.page.render import MOST_DETAILS, render
from lindley.verification.check import Checks, check

if TYPE_CHECKING:
    import pandas as pd

type _Read = Callable[[Link], tuple[dict[str, Any], pd.DataFrame]]


@dataclass(frozen=True)
class Shown:
    """Which links of a chain its page shows, and how they are read.

    Parameters
    ----------
    last, most
        Number of the last one, and how many up to it; 0 for the head, and for all.
    read
        Gives record and table of parameters of a link, which a server keeps by the record's digest.
    """

    last: int = 0
    most: int = 0
    read: _Read = lambda link: (link.record, link.summary())


_ALL = Shown()


def write_page(
    ledger: Ledger, chain: str, path: Path, *, verify: bool = True, plots: bool = True
) -> PageContent:
    """Write the page of a chain; return what it shows.

    Parameters
    ----------
    ledger, chain
        Which chain, and where it is.
    path
        The file, overwritten if it exists; it appears whole or not at all.
    verify
        Whether the chain is verified on the way.
    plots
        Whether the plots of the head are drawn.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain, or it has no link.
    LedgerCorrupt
        If a file is not the one that its record lists.
    """
    content = read_page(ledger, chain, datetime.now(UTC).isoformat(), verify=verify, plots=plots)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_over(render(content).encode(), path)
    return content


def verified(ledger: Ledger, name: str) -> Verification:
    """Verify a chain, and return what its page says of that."""
    checked = check(ledger, name, Checks())
    return Verification(
        ok=checked.report.ok,
        message=checked.message,
        rules=checked.report.rules,
        findings=tuple(checked.rows()),
    )


def holds_panel(ledger: Ledger, name: str) -> bool:
    """Whether a chain is a panel.

    Raises
    ------
    UnknownChain
        If there is no such chain.
    """
    return bool(parse(genesis_of(ledger, name))["model"]["by"])


def read_page(
    ledger: Ledger,
    name: str,
    written: str,
    *,
    verify: bool = True,
    plots: bool = True,
    shown: Shown | None = None,
) -> PageContent:
    """Read what the page of a chain shows; see `write_page`.

    Parameters
    ----------
    written
        When it is written, ISO 8601 in UTC.
    shown
        Which of its links; all by default.
    """
    shown = shown or Shown()
    chain, genesis = find_begun(ledger, name)
    _require_one_belief(name, genesis)
    views = views_of(chain)
    last = min(shown.last or len(views), len(views))
    window = views[max(last - (shown.most or last), 0) : last]
    links = tuple(_links(ledger, name, window, shown.read))
    newest = None if last == len(views) else _content(Link(name, views[-1], ledger), None, shown.read)
    head = newest or links[-1]
    origin = parse(genesis)["branch"]
    return PageContent(
        chain=name,
        genesis=digest(genesis),
        links=links,
        newest=newest,
        length=len(views),
        others=_others(chain),
        branch_of=(origin["chain"], chain.base) if origin else None,
        branches=tuple(_branches(ledger, name, chain)),
        code=_sources(Link(name, views[-1], ledger)),
        verification=verified(ledger, name) if verify else None,
        plots=_plots(ledger, head) if plots else {},
        written=written,
        lindley=__version__,
    )


def read_link(ledger: Ledger, name: str, number: int, *, plots: bool = True) -> LinkPage:
    """Read what the page of one link shows.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain or link.
    PanelRefused
        If it is one of a panel.
    LedgerCorrupt
        If a file is not the one that its record lists.
    """
    chain, genesis = find_begun(ledger, name)
    _require_one_belief(name, genesis)
    views = views_of(chain)
    view = next((view for view in views if view.number == number), None)
    if view is None:
        raise UnknownLink(
            f"{name} has no link {number}", expected=f"a number from 1 to {len(views)}", found=str(number)
        )
    before = Link(name, views[number - 2], ledger) if number > 1 else None
    link = Link(name, view, ledger)
    content = _content(link, before)
    return LinkPage(
        chain=name,
        link=content,
        links=len(views),
        addresses=_addresses(ledger, name, view),
        code=_sources(link),
        plots=_plots(ledger, content) if plots else {},
    )


def _addresses(ledger: Ledger, name: str, view: LinkView) -> dict[str, str]:
    """Return the addresses of a link in MLflow's and Prefect's pages, as far as they are known."""
    held = ledger.urls(name, view.run_id, view.version)
    found = {f"{what.capitalize()} in MLflow": address for what, address in held.items()}
    state = ledger.run_state(view.run_id)
    flow_run = public(state.tags.get("lindley.flow_run_url", "")) if state is not None else ""
    # A tag is text from outside: only an address of a page becomes a link.
    if flow_run.startswith(("http://", "https://")):
        found["Flow run in Prefect"] = flow_run
    return found


def _require_one_belief(name: str, genesis: bytes) -> None:
    if parse(genesis)["model"]["by"]:
        todo = f"run `lindley members {name}`"
        raise not_of_panels(name, "the page of a chain shows one belief", todo)


def _sources(link: Link) -> dict[str, str]:
    """Return the code of a link's model by file: its own, and of the modules stored with it."""
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        folder = Path(scratch)
        found = {str(Artifact.MODEL): link.download(Artifact.MODEL, folder).read_bytes()}
        if Artifact.MODULES in link.record["artifacts"]:
            found |= stored_files(link.download(Artifact.MODULES, folder))
    return {name: data.decode("utf-8", "replace") for name, data in found.items()}


def _links(
    ledger: Ledger, name: str, views: list[LinkView], read: _Read = _ALL.read
) -> Iterator[LinkContent]:
    before: Link | None = None
    for place, view in enumerate(views):
        link = Link(name, view, ledger)
        shown = len(views) - place <= MOST_DETAILS
        yield _content(link, before if shown else None, read)
        before = link


def _content(link: Link, before: Link | None, read: _Read = _ALL.read) -> LinkContent:
    """Return what a page shows of a link, with the difference of its code to that of a link before it."""
    view, (record, summary) = link.view, read(link)
    return LinkContent(
        number=view.number or 0,
        version=view.version,
        kind=view.kind,
        created=view.created,
        run_id=view.run_id,
        record=record,
        digest=view.record_digest,
        batch=view.origin if view.batch_digest else "",
        rows=view.rows,
        counted=view.counted,
        sentences=tuple(view.amendments),
        warnings=view.warnings,
        summary=summary,
        change=() if before is None or _code(before, read) == _code(link, read) else _change(before, link),
    )


def _code(link: Link, read: _Read) -> str:
    """Return the digest of a link's model code."""
    return str(read(link)[0]["model"]["digest"])


def _change(before: Link, link: Link) -> tuple[str, ...]:
    """Return the difference between the model codes of two links, file by file and line by line."""
    one, other = _sources(before), _sources(link)
    found: list[str] = []
    for name in dict.fromkeys([*one, *other]):
        old, new = (source.get(name, "").splitlines() for source in (one, other))
        was, now = (f"{name}, link {each.view.number}" for each in (before, link))
        found += difflib.unified_diff(old, new, was, now, lineterm="")
    return tuple(found)


def _others(chain: Chain) -> tuple[OtherVersion, ...]:
    waiting = {version.record for version in chain.waiting}
    joined = {version.record for link in chain.links for version in link.joined}
    return tuple(
        OtherVersion(
            version=view.version,
            status=view.status,
            created=view.created,
            batch=view.origin if view.batch_digest else "",
            rows=view.rows,
            digest=view.record_digest,
            waits=view.record_digest in waiting,
            joined=view.record_digest in joined,
            reasons=(*view.reasons, *view.amendments),
        )
        for view in views_of(chain, every=True)
        if view.status != Status.ACCEPTED
    )


def _branches(ledger: Ledger, name: str, chain: Chain) -> Iterator[tuple[str, int]]:
    """Yield the chains that branched from a chain, and the number of the link that each starts from."""
    for other in divided(ledger.chains())[0]:
        if other == name:
            continue
        with suppress(LindleyError):  # what is wrong with another chain is not this one's
            origin = parse(genesis_of(ledger, other))["branch"]
            start: ChainLink | None = chain.link_of(origin["record"]) if origin else None
            if origin and origin["chain"] == name and start is not None:
                yield other, start.number


def _plots(ledger: Ledger, head: LinkContent) -> dict[str, bytes]:
    """Return the plots of the head, drawn from its stored trace."""
    with tempfile.TemporaryDirectory(prefix="lindley-") as scratch:
        paths = draw_into(ledger, head.run_id, head.digest, Path(scratch))
        return {
            Path(path).stem.replace("_", " ").capitalize(): (Path(scratch) / path).read_bytes()
            for path in paths
        }
