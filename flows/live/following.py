"""Follow the head of a chain: a link that is registered answers as soon as its files are checked."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from lindley.errors import LedgerCorrupt, LindleyError
from lindley.ledger.history import Link, LinkView, find_link, views_of
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain
from lindley.ledger.record import Artifact
from lindley.model.declaration import Declaration
from lindley.names import printable
from lindley.serving.predict import Predictor
from lindley.serving.rows import Rows
from lindley.verification.loading import Brought, checked_link

#: Seconds between two looks at the registry.
LOOK_SECONDS = 0.5
#: Seconds after which a head that was refused is tried again: a file may have been restored.
AGAIN_SECONDS = 15.0
#: Sizes of requests that a new link is made ready for, and rows of the largest of them.
_READY_SIZES, _READY_ROWS = 8, 5_000


@dataclass(frozen=True)
class Snapshot:
    """One link that answers. A request holds the one that it began with, so no answer mixes two links.

    Parameters
    ----------
    link
        The link, checked against its digests.
    predictor
        What answers for it.
    views
        The links up to it.
    summary
        Its table of parameters.
    """

    link: Link
    predictor: Predictor
    views: tuple[LinkView, ...]
    summary: pd.DataFrame

    @cached_property
    def identity(self) -> dict[str, Any]:
        """What every answer names."""
        view = self.link.view
        return {
            "chain": self.link.chain,
            "link": view.number,
            "version": view.version,
            "record": view.record_digest,
        }


@dataclass(frozen=True)
class Standing:
    """Whether a server answers with the newest link.

    Parameters
    ----------
    why
        Why it does not; empty where it does.
    newest
        Number of the registry's newest version.
    looked
        When the registry answered last, in seconds of `time.monotonic`.
    """

    why: str = ""
    newest: int = 0
    looked: float = 0.0


@dataclass
class Follower:
    """Keeps the newest accepted link of one chain.

    Parameters
    ----------
    ledger, reference
        Where it is kept, and which chain. ``CHAIN@3`` stays at that link.
    brought
        What each head is checked with, beside its digests.
    notify
        Takes one sentence about each change.
    """

    ledger: Ledger
    reference: str
    brought: Brought = field(default_factory=Brought)
    notify: Callable[[str], object] = lambda _: None
    #: How often the head has moved, and how long the newest one took from the look that found it.
    moves: int = 0
    seconds: float = 0.0
    standing: Standing = field(default_factory=Standing)

    def __post_init__(self) -> None:
        """Load the head; a server starts with a link or not at all."""
        self.chain, at, place = self.reference.partition("@")
        self._follows = not at or place == "head"
        self._recent: OrderedDict[int, Rows | pd.DataFrame] = OrderedDict()
        self._refused = 0.0
        newest = self._newest()
        self._snapshot = self._loaded(None)
        self.standing = Standing(newest=newest, looked=time.monotonic())

    @property
    def snapshot(self) -> Snapshot:
        """The link that answers now; never changed, only replaced."""
        return self._snapshot

    def remember(self, rows: Rows | pd.DataFrame) -> None:
        """Remember what was asked, so that the next link is ready for requests of this size."""
        if len(rows) <= _READY_ROWS:
            self._recent[len(rows)] = rows
            while len(self._recent) > _READY_SIZES:
                self._recent.popitem(last=False)

    def follow(self, stop: threading.Event) -> None:
        """Look for a newer link until `stop` is set."""
        while self._follows and not stop.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Look once. Whatever is wrong with the newest link, the one before goes on answering."""
        start = time.monotonic()
        try:
            newest = self._newest()
            tried = newest == self.standing.newest
            if tried and (not self.standing.why or start - self._refused < AGAIN_SECONDS):
                self.standing = Standing(self.standing.why, newest, start)
                return
            made = self._loaded(self._snapshot)
        except LindleyError as error:
            self._stay(str(error), error.transient, start)
        except Exception as error:  # a damaged file raises nearly anything, and the old link has to answer on
            self._stay(f"{type(error).__name__}: {error}", False, start)
        else:
            moved = made is not self._snapshot
            self._snapshot = made
            self.standing = Standing(newest=newest, looked=start)
            if moved:
                self.moves, self.seconds = self.moves + 1, time.monotonic() - start
                self.notify(f"{self.chain} link {made.link.view.number} answers")

    def _stay(self, why: str, transient: bool, start: float) -> None:
        """Keep the link that answers, and state why."""
        why = printable(" ".join(why.split()))[:500]
        if why != self.standing.why:
            number = self._snapshot.link.view.number
            self.notify(f"{self.chain} link {number} goes on answering. {why}")
        newest = self.standing.newest if transient else self._newest_known()
        self._refused = float("-inf") if transient else start
        self.standing = Standing(why, newest, self.standing.looked)

    def _newest(self) -> int:
        versions = self.ledger.versions(self.chain, fresh=False)
        return versions[-1].number if versions else 0

    def _newest_known(self) -> int:
        try:
            return self._newest()
        except LindleyError:
            return self.standing.newest

    def _loaded(self, before: Snapshot | None) -> Snapshot:
        """Load, check and make ready the link that should answer; `before` where that has not changed."""
        chain = find_chain(self.ledger, self.chain)
        if before is not None and chain.head is not None:
            record = before.link.view.record_digest
            if chain.head.version.record == record:
                return before
            if chain.link_of(record) is None:
                raise LedgerCorrupt(
                    f"{self.chain} was rewritten while it was served",
                    expected=f"a chain that still has link {before.link.view.number}, record {record[:12]}",
                    found=f"{len(chain.links)} links without it",
                    todo=f"run `lindley verify {self.chain}`; find out who wrote to the store",
                )
        link = checked_link(self.ledger, self.reference, self.brought)
        number = link.view.number or 0
        known = None
        if before is not None and _code(link) == _code(before.link):
            known = before.predictor.declaration
        views = tuple(views_of(chain)[:number])
        made = Snapshot(link, link.predictor_with(known), views, link.summary())
        self._make_ready(made, known)
        return made

    def _make_ready(self, made: Snapshot, known: Declaration | None) -> None:
        """Predict for what was asked before, so that no request waits for what is made once."""
        frames: list[Rows | pd.DataFrame] = list(self._recent.values())
        if not frames and known is None:
            batch = made.link.batch()
            frames = [] if batch is None else [batch.head(2)]
        for rows in frames:
            try:
                made.predictor.columns(rows)
            except LindleyError:
                continue  # the rows may not fit the model of this link; who asks for them gets the reason


def _code(link: Link) -> tuple[str | None, ...]:
    """Return the digests of the code that a link's predictions run."""
    return tuple(link.record["artifacts"].get(name) for name in (Artifact.MODEL, Artifact.MODULES))


def resolved(ledger: Ledger, references: list[str]) -> list[str]:
    """Check that references name links of different chains; return them.

    Raises
    ------
    LindleyError
        If a chain is named twice.
    UnknownChain, UnknownLink
        If one names nothing.
    """
    names = [find_link(ledger, reference).chain for reference in references]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LindleyError(
            f"The chain {twice[0]} is named twice",
            expected="each chain once",
            found=", ".join(references)[:200],
            todo="leave out one of them",
        )
    return references
