"""The pages of all chains, read from the ledger at each request: an index, a page a chain, a page a link."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response

from flows.monitoring.verified import last_verification
from flows.sequences.report import read_link, read_page
from lindley import __version__
from lindley.cache import Recent
from lindley.errors import LindleyError, NameRefused, PanelRefused, UnknownChain, UnknownLink
from lindley.ledger.history import LinkView, views_of, waiting
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain
from lindley.names import check_chain_name, divided
from lindley.report.numbers import MISSING, format_number
from lindley.report.page.content import IndexContent, IndexRow, Verification
from lindley.report.page.render import render, render_index, render_link
from lindley.report.text import counted, one_line
from lindley.workspace import Workspace

#: Nothing is fetched and no script runs; the index has a form that asks it again.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = {"content-security-policy": _POLICY, "cache-control": "no-store", "referrer-policy": "no-referrer"}
#: Bytes of finished pages that are kept; each is named by the record that it shows.
_KEPT = 2**26
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
        self._drawing = threading.Lock()
        self._at_once = anyio.CapacityLimiter(_AT_ONCE)
        self.app = FastAPI(title="Lindley", openapi_url=None, docs_url=None, redoc_url=None)
        for path, make in (
            ("/", self._index),
            ("/chains/{chain}", self._chain),
            ("/chains/{chain}/links/{link}", self._link),
        ):
            self.app.add_route(path, partial(self._answer, make), methods=["GET"])
        self.app.add_route("/healthz", _lives, methods=["GET"])

    async def _answer(self, make: Callable[[Request], bytes], request: Request) -> Response:
        """Answer with a page; what is wrong is one sentence."""
        try:
            page = await anyio.to_thread.run_sync(partial(make, request), limiter=self._at_once)
        except (UnknownChain, UnknownLink, NameRefused, PanelRefused) as error:
            return _text(404, str(error))
        except LindleyError as error:
            return _text(503 if error.transient else 500, str(error))
        return Response(page, media_type="text/html; charset=utf-8", headers=_HEADERS)

    def _index(self, request: Request) -> bytes:
        """Return the page of all chains; one that cannot be read hides no other."""
        asked = request.query_params.get("q", "").strip()
        wanted = one_line(asked, 63) if asked else ""
        names, others = divided(self._ledger.chains())
        rows: list[IndexRow] = []
        problems = dict.fromkeys(others, "its name is that of no chain")
        for name in names:
            if wanted not in name:
                continue
            try:
                rows.append(self._row(name))
            except Exception as error:  # whatever is wrong with this chain
                problems[name] = one_line(str(error) or type(error).__name__, 300)
        content = IndexContent(
            rows=tuple(rows), problems=problems, wanted=wanted, written=_now(), lindley=__version__
        )
        return render_index(content).encode()

    def _row(self, name: str) -> IndexRow:
        chain = find_chain(self._ledger, name)
        views, verified = views_of(chain), last_verification(self._workspace, name)
        head = views[-1] if views else None
        return IndexRow(
            chain=name,
            facts=_facts(views),
            scores=tuple(view.metrics.get("log_predictive", math.nan) for view in views),
            warnings=len(head.warnings) if head else 0,
            waiting=len(waiting(chain)),
            verified=None if verified is None else verified.ok,
            verified_head=bool(verified and head and verified.record == head.record_digest),
        )

    def _chain(self, request: Request) -> bytes:
        name = check_chain_name(request.path_params["chain"])
        chain, verified = find_chain(self._ledger, name), last_verification(self._workspace, name)
        own = self._ledger.versions(name, fresh=False)
        key = (name, chain.head_digest, len(own), None if verified is None else str(verified.at))

        def make() -> bytes:
            content = read_page(self._ledger, name, _now(), verify=False, plots=False)
            if verified is not None:
                said = Verification(ok=verified.ok, message=verified.message, rules={})
                content = replace(content, verification=said)
            return render(content, live=True).encode()

        return self._made.get(key, make)

    def _link(self, request: Request) -> bytes:
        name, place = check_chain_name(request.path_params["chain"]), request.path_params["link"]
        if not (place.isascii() and place.isdecimal() and len(place) < 9):
            raise UnknownLink(f"{name} has no such link", expected="its number", found=repr(place)[:40])
        head = find_chain(self._ledger, name).head_digest

        def make() -> bytes:
            with self._drawing:  # pictures are drawn by settings of the process
                return render_link(read_link(self._ledger, name, int(place))).encode()

        return self._made.get((name, head, int(place)), make)


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
