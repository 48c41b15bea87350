"""The HTTP server of predictions: MLflow's scoring protocol on links that follow their chains."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from typing import Any

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request, Response

from flows.live.counters import Counters
from flows.live.following import Follower, Snapshot
from flows.live.scoring import RequestRefused, answer, predictions, read_request
from lindley.errors import BatchRefused, LindleyError, ModelRefused
from lindley.names import printable

_PATHS = "POST /invocations, and GET /belief, /history, /chains, /healthz and /metrics"
_CODES = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}
#: Without these a probe of a load balancer would need the token.
_OPEN = ("/ping", "/healthz")
#: Said of every answer: browsers neither keep nor guess it.
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Predictions:
    """The application.

    Parameters
    ----------
    followers
        Of the chains that are served, by name.
    token
        What requests have to bring as ``Authorization: Bearer TOKEN``; empty for none.
    most_bytes
        Size of a request's body at most.
    """

    def __init__(
        self, followers: Mapping[str, Follower], *, token: str = "", most_bytes: int = 2**24
    ) -> None:
        self.followers, self._token, self._most = dict(followers), token, most_bytes
        self.counters = Counters(self.followers.values())
        self._at_once = anyio.CapacityLimiter(max(2, os.cpu_count() or 1))
        self.app = FastAPI(title="Lindley", openapi_url=None, docs_url=None, redoc_url=None)
        add = self.app.add_route
        for path, methods, respond in (
            ("/ping", ["GET"], self._ping),
            ("/version", ["GET"], self._version),
            ("/healthz", ["GET"], self._health),
            ("/metrics", ["GET"], self._metrics),
            ("/chains", ["GET"], self._chains),
            ("/chains/{chain}/invocations", ["POST"], self._invocations),
            ("/chains/{chain}/belief", ["GET"], self._belief),
            ("/chains/{chain}/history", ["GET"], self._history),
            ("/invocations", ["POST"], self._invocations),
            ("/belief", ["GET"], self._belief),
            ("/history", ["GET"], self._history),
        ):
            add(path, partial(self._guarded, respond), methods=methods)
        for status in (404, 405):
            self.app.add_exception_handler(status, self._no_such)

    # -- what stands before an answer ------------------------------------------------------------------

    async def _guarded(self, respond: Callable[[Request], Awaitable[Response]], request: Request) -> Response:
        """Answer a request that may ask; every refusal is one sentence."""
        try:
            if self._token and request.url.path not in _OPEN:
                self._require_token(request.headers.get("authorization", ""))
            return await respond(request)
        except RequestRefused as refused:
            return _refusal(refused.status, str(refused))
        except LindleyError as error:
            known = isinstance(error, BatchRefused | ModelRefused)
            return _refusal(400 if known else 503 if error.transient else 500, str(error))

    def _require_token(self, given: str) -> None:
        scheme, _, token = given.partition(" ")
        right = hmac.compare_digest(token.strip().encode(), self._token.encode())
        if scheme.lower() != "bearer" or not right:
            raise RequestRefused(401, "Send the server's token as `Authorization: Bearer TOKEN`")

    def _follower(self, request: Request) -> Follower:
        """Return the chain that a request asks about."""
        name = request.path_params.get("chain")
        if name is None and len(self.followers) == 1:
            return next(iter(self.followers.values()))
        known = ", ".join(self.followers)
        if name is None:
            raise RequestRefused(404, f"Ask /chains/NAME{request.url.path}, where NAME is one of {known}")
        if name not in self.followers:
            raise RequestRefused(404, f"{printable(name)[:80]} is not served here, but {known}")
        return self.followers[name]

    async def _body(self, request: Request) -> bytes:
        """Return the body of a request, read no further than it may be long."""
        stated = request.headers.get("content-length", "0")
        if stated.isdecimal() and int(stated) > self._most:
            raise RequestRefused(413, self._too_large)
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self._most:
                raise RequestRefused(413, self._too_large)
            parts.append(part)
        return b"".join(parts)

    @property
    def _too_large(self) -> str:
        return f"The body is longer than {self._most:,} bytes: predict for some of the rows at a time"

    # -- answers ---------------------------------------------------------------------------------------

    async def _invocations(self, request: Request) -> Response:
        """Predict with one link: the one that answers when the request begins."""
        start, follower = time.perf_counter(), self._follower(request)
        status = 500
        try:
            body, snapshot = await self._body(request), follower.snapshot
            kind = request.headers.get("content-type", "")
            content = await anyio.to_thread.run_sync(
                partial(_predicted, follower, snapshot, kind, body), limiter=self._at_once
            )
            status = 200
            return _from(snapshot, content)
        except RequestRefused as refused:
            status = refused.status
            raise
        except LindleyError as error:
            status = 400 if isinstance(error, BatchRefused | ModelRefused) else 500
            raise
        finally:
            self.counters.answered(follower.chain, status, time.perf_counter() - start)

    async def _belief(self, request: Request) -> Response:
        snapshot = self._follower(request).snapshot
        view, record = snapshot.link.view, snapshot.link.record
        found = {
            "parameters": snapshot.summary.reset_index().to_dict("records"),
            "kind": view.kind,
            "created": view.created,
            "batch": {"origin": view.origin, "rows": view.rows, "digest": view.batch_digest},
            "warnings": list(view.warnings),
            "metrics": dict(record["metrics"]),
            "previous": view.previous,
        }
        return _from(snapshot, answer(found | {"lindley": snapshot.identity}))

    async def _history(self, request: Request) -> Response:
        snapshot = self._follower(request).snapshot
        links = [asdict(view) for view in snapshot.views]
        return _from(snapshot, answer({"links": links, "lindley": snapshot.identity}))

    async def _ping(self, _: Request) -> Response:
        return Response("\n", media_type="text/plain", headers=_HEADERS)

    async def _version(self, _: Request) -> Response:
        # As MLflow's own server, whose clients ask for it.
        return Response(version("mlflow"), media_type="text/plain", headers=_HEADERS)

    async def _health(self, _: Request) -> Response:
        """Answer 200 as long as predictions are answered; say whether they are those of the newest link."""
        found = {name: follower.standing.why for name, follower in self.followers.items()}
        chains = {
            name: self.followers[name].snapshot.identity | {"newest": not why, "why": why}
            for name, why in found.items()
        }
        return _json(200, {"status": "behind" if any(found.values()) else "ok", "chains": chains})

    async def _metrics(self, _: Request) -> Response:
        text = await anyio.to_thread.run_sync(self.counters.exposition)
        return Response(text, media_type="text/plain; version=0.0.4; charset=utf-8", headers=_HEADERS)

    async def _chains(self, _: Request) -> Response:
        return _json(200, {"chains": [follower.snapshot.identity for follower in self.followers.values()]})

    async def _no_such(self, request: Request, error: Any) -> Response:
        """Answer for a path or a method that is not there."""
        if self._token:
            try:
                self._require_token(request.headers.get("authorization", ""))
            except RequestRefused as refused:
                return _refusal(refused.status, str(refused))
        what = f"{request.method} {printable(request.url.path)[:80]}"
        return _refusal(error.status_code, f"{what} is not answered; {_PATHS} are")


def _predicted(follower: Follower, snapshot: Snapshot, kind: str, body: bytes) -> bytes:
    """Return the answer to one request; nothing of it is shared with another but the snapshot."""
    asked = read_request(kind, body, snapshot.predictor.declaration.missing)
    found = predictions(snapshot.predictor.columns(asked.rows, seed=asked.seed), snapshot.identity)
    follower.remember(asked.rows)
    return found


def _from(snapshot: Snapshot, content: bytes) -> Response:
    """Return an answer that names its link."""
    named = {f"x-lindley-{name}": str(value) for name, value in snapshot.identity.items()}
    return Response(content, media_type="application/json", headers=_HEADERS | named)


def _refusal(status: int, message: str) -> Response:
    """Return an error as MLflow's server has it."""
    challenge = {"www-authenticate": "Bearer"} if status == 401 else {}
    code = _CODES.get(status, "INTERNAL_ERROR" if status >= 500 else "BAD_REQUEST")
    body = answer({"error_code": code, "message": " ".join(message.split())})
    return Response(body, status, media_type="application/json", headers=_HEADERS | challenge)


def _json(status: int, value: Any) -> Response:
    return Response(answer(value), status, media_type="application/json", headers=_HEADERS)
