"""The pages of all chains, read from the ledger at each request: an index, a page a chain, a page a link."""

from __future__ import annotations

import logging
import math
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response

from flows.monitoring.verified import Verification as Verified
from flows.monitoring.verified import last_verification
from flows.sequences.report import Shown, holds_panel, read_link, read_page
from flows.sequences.report_panel import read_member, read_panel
from lindley import __version__
from lindley.arrivals.storage import storage_of
from lindley.cache import Recent
from lindley.errors import (
    LindleyError,
    MemberRefused,
    NameRefused,
    PanelRefused,
    UnknownChain,
    UnknownLink,
)
from lindley.ledger.history import Link, LinkView, views_of
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain
from lindley.names import check_chain_name, divided
from lindley.panel.key import read_key
from lindley.report.numbers import MISSING, format_number
from lindley.report.page.content import IndexContent, IndexRow, Verification
from lindley.report.page.members import PAGE_MEMBERS, render_member, render_panel
from lindley.report.page.render import render, render_index, render_link
from lindley.report.text import counted, one_line
from lindley.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

_LOG = logging.getLogger("lindley.pages")
#: Nothing is fetched and no script runs; the index has a form that asks it again.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": _POLICY, "cache-control": "no-store", "referrer-policy": "no-referrer"}
#: Bytes of finished pages that are kept; each is named by the record that it shows.
_KEPT = 2**26
#: Characters of a member's key in an address at most.
_MOST_KEY = 4096
#: Links that a page of a chain shows; earlier ones are a click away.
LINKS_AT_ONCE = 100
#: Links whose record and table of parameters are kept.
_KEPT_LINKS = 4000
#: Pages that are made at once: each reads many files.
_AT_ONCE = 2


class Pages:
    """The application.

    Parameters
    ----------
    ledger
        Where the chains are kept.
    workspace
        The working folder, where the last verifications are noted.
    """

    def __init__(self, ledger: Ledger, workspace: Workspace) -> None:
        self._ledger, self._workspace = ledger, workspace
        self._made: Recent[bytes] = Recent(_KEPT, len)
        self._links: Recent[tuple[dict[str, Any], pd.DataFrame]] = Recent(_KEPT_LINKS, lambda _: 1)
        self._drawing = threading.Lock()
        self._at_once = anyio.CapacityLimiter(_AT_ONCE)
        self.app = FastAPI(title="Lindley", openapi_url=None, docs_url=None, redoc_url=None)
        for path, make in (
            ("/", self._index),
            ("/chains/{chain}", self._chain),
            ("/chains/{chain}/links/{link}", self._link),
            ("/chains/{chain}/members", self._member),
        ):
            self.app.add_route(path, partial(self._answer, make), methods=["GET"])
        self.app.add_route("/healthz", _lives, methods=["GET"])

    async def _answer(self, make: Callable[[Request], bytes], request: Request) -> Response:
        """Answer with a page; what is wrong is one sentence."""
        try:
            page = await anyio.to_thread.run_sync(partial(make, request), limiter=self._at_once)
        except (UnknownChain, UnknownLink, NameRefused, PanelRefused, MemberRefused) as error:
            return _text(404, str(error))
        except LindleyError as error:
            return _text(503 if error.transient else 500, str(error))
        except Exception:  # a fault of Lindley's own; without this its cause would be nowhere
            _LOG.exception("The page %s could not be made", one_line(request.url.path, 300))
            return _text(500, "This page could not be made. The log of the pages has the reason.")
        return Response(page, media_type="text/html; charset=utf-8", headers=_HEADERS)

    def _index(self, request: Request) -> bytes:
        """Return the page of all chains; one that cannot be read hides no other."""
        asked = request.query_params.get("q", "").strip()
        wanted = one_line(asked, 63) if asked else ""
        names, others = divided(self._ledger.chains())
        rows: list[IndexRow] = []
        files = self._files()
        problems = dict.fromkeys(others, "its name is that of no chain")
        for name in names:
            if wanted not in name:
                continue
            try:
                rows.append(self._row(name, files))
            except Exception as error:  # whatever is wrong with this chain
                problems[name] = one_line(str(error) or type(error).__name__, 300)
        content = IndexContent(
            rows=tuple(rows), problems=problems, wanted=wanted, written=_now(), lindley=__version__
        )
        return render_index(content).encode()

    def _files(self) -> dict[str, int]:
        """Return how many files wait in the landing folder, by chain; none where it cannot be listed."""
        with suppress(LindleyError, OSError):
            return Counter(file.chain for file in storage_of(self._workspace).arrivals())
        return {}

    def _row(self, name: str, files: Mapping[str, int]) -> IndexRow:
        chain = find_chain(self._ledger, name)
        views, verified = views_of(chain), last_verification(self._workspace, name)
        head = views[-1] if views else None
        return IndexRow(
            chain=name,
            facts=_facts(views) | _last(verified),
            scores=tuple(view.metrics.get("log_predictive", math.nan) for view in views),
            warnings=len(head.warnings) if head else 0,
            waiting=len(chain.waiting),
            undecided=len(chain.undecided),
            files=files.get(name, 0),
            verified=None if verified is None else verified.ok,
            verified_head=bool(verified and head and verified.record == head.record_digest),
        )

    def _chain(self, request: Request) -> bytes:
        name = check_chain_name(request.path_params["chain"])
        verified, last = last_verification(self._workspace, name), _place(request.query_params.get("to", ""))
        own = self._ledger.versions(name, fresh=False)
        # What is shown follows from the versions with their tags, and from the last verification.
        states = tuple((version.number, version.record, version.status) for version in own)
        key = (name, hash(states), last, None if verified is None else str(verified.at))

        said = None
        if verified is not None:
            said = Verification(ok=verified.ok, message=verified.message, rules={})
        if holds_panel(self._ledger, name):
            asked = request.query_params.get("q", "").strip()
            wanted = one_line(asked, 120) if asked else ""
            first = _place(request.query_params.get("first", ""))
            panel = read_panel(
                self._ledger, name, _now(), verify=False, wanted=wanted, first=first, most=PAGE_MEMBERS
            )
            return render_panel(replace(panel, verification=said), live=True).encode()

        def make() -> bytes:
            shown = Shown(last, LINKS_AT_ONCE, self._read)
            content = read_page(self._ledger, name, _now(), verify=False, plots=False, shown=shown)
            return render(replace(content, verification=said), live=True).encode()

        return self._made.get(key, make)

    def _read(self, link: Link) -> tuple[dict[str, Any], pd.DataFrame]:
        """Return record and table of parameters of a link, which never change, from those read before."""
        return self._links.get(link.view.record_digest, lambda: (link.record, link.summary()))

    def _member(self, request: Request) -> bytes:
        name = check_chain_name(request.path_params["chain"])
        given = request.query_params.get("key", "")
        try:
            key = read_key(given[:_MOST_KEY])
        except (ValueError, RecursionError, TypeError, AttributeError) as error:
            raise MemberRefused(
                "The key of a member was refused", expected="its canonical JSON", found=repr(given)[:80]
            ) from error
        return render_member(read_member(self._ledger, name, key, _now()), live=True).encode()

    def _link(self, request: Request) -> bytes:
        name, place = check_chain_name(request.path_params["chain"]), request.path_params["link"]
        if not (place.isascii() and place.isdecimal() and len(place) < 9):
            raise UnknownLink(f"{name} has no such link", expected="its number", found=repr(place)[:40])
        head = find_chain(self._ledger, name).head_digest

        def make() -> bytes:
            with self._drawing:  # pictures are drawn by settings of the process
                return render_link(read_link(self._ledger, name, int(place))).encode()

        return self._made.get((name, head, int(place)), make)


def _last(verified: Verified | None) -> dict[str, str]:
    """Return when a chain was verified last."""
    if verified is None:
        return {}
    return {"last verified": f"{str(verified.at)[:16].replace('T', ' ')} UTC"}


def _place(text: str) -> int:
    """Return a place in a table; the first one where the text is no such number."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 9 else 0


def _facts(views: list[LinkView]) -> dict[str, str]:
    """Return what the index shows of a chain."""
    if not views:
        return {"links": "none yet"}
    head = views[-1]
    batch = next((view for view in reversed(views) if view.batch_digest), None)
    metrics = head.metrics
    found = {
        "head": f"link {head.number}, {head.kind}, {head.created[:16].replace('T', ' ')} UTC",
        "last batch": f"{batch.origin}, {counted(batch.rows, 'row')}" if batch else MISSING,
        "conflict p": format_number(metrics.get("conflict_p"), digits=2),
        "drift": _against(metrics.get("drift"), metrics.get("budget")),
        "stated error": format_number(metrics.get("stated_error"), digits=2),
        "record": head.record_digest[:12],
    }
    return {name: value for name, value in found.items() if value != MISSING}


def _against(value: float | None, budget: float | None) -> str:
    shown = format_number(value, digits=2)
    return (
        shown if budget is None or shown == MISSING else f"{shown}, budget {format_number(budget, digits=2)}"
    )


async def _lives(_: Request) -> Response:
    """Say that the server answers, without a look at the ledger."""
    return _text(200, "ok")


def _text(status: int, message: str) -> Response:
    return Response(f"{message}\n", status, media_type="text/plain; charset=utf-8", headers=_HEADERS)


def _now() -> str:
    return datetime.now(UTC).isoformat()
