"""Where an update starts: the newest belief whose match is good, or the oldest within reach.

A belief that has no good match yet (an early one, after few rows) is not passed on as it is: the batches
since the last good one are fitted again together with the new one. Nothing is lost then, and what it costs
is bounded by the window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lindley.batch.batch import Batch
from lindley.inference.fit import Fit, fit
from lindley.inference.hindsight import Segment
from lindley.model.declaration import Declaration
from lindley.prior.belief import Belief


def replayed_links(trusted: Sequence[bool | None], window: int) -> int:
    """Return how many of the newest links are fitted again.

    Parameters
    ----------
    trusted
        Whether each link's match is good enough to start from, oldest first; None for a link that must
        not be gone behind (one without a batch of its own).
    window
        Links at most.

    Returns
    -------
    int
        0 to start from the head. All of them means to start from genesis.
    """
    count = 0
    for good in reversed(trusted):
        if good or good is None or count == window:
            break
        count += 1
    return count


@dataclass(frozen=True)
class MemoryChain:
    """A chain in memory, without a ledger.

    Parameters
    ----------
    beliefs, batches
        The belief after each batch, and the batches, oldest first.
    replayed
        How many batches before its own each fit was made on.
    root
        The belief that the chain starts from and that is not gone behind; None for genesis.
    """

    beliefs: tuple[Belief, ...] = ()
    batches: tuple[Batch, ...] = ()
    replayed: tuple[int, ...] = ()
    root: Belief | None = None

    @property
    def head(self) -> Belief | None:
        """The newest belief; None before the first batch of a chain that starts from genesis."""
        return self.beliefs[-1] if self.beliefs else self.root

    def segment(self, place: int) -> Segment:
        """Return how the belief at a place came about."""
        first = place - self.replayed[place]
        return Segment(
            start=lambda: self.beliefs[first - 1] if first else self.root,
            batches=lambda: self.batches[first : place + 1],
            count=place - first + 1,
        )

    def behind(self, place: int) -> list[Segment]:
        """Return how the belief at a place came about, and what came before it, newest first."""
        found = []
        while place >= 0:
            found.append(self.segment(place))
            place -= found[-1].count
        return found


def advance(
    chain: MemoryChain,
    batch: Batch,
    declaration: Declaration,
    *,
    carried: tuple[str, ...],
    seed: int,
    **options: Any,
) -> tuple[MemoryChain, Fit]:
    """Update a chain in memory as the pipeline would; see `lindley.inference.fit.fit` for the options."""
    window = declaration.policy.window
    count = replayed_links([b.trusted for b in chain.beliefs], window)
    place = len(chain.beliefs) - count - 1
    found = fit(
        chain.beliefs[place] if place >= 0 else chain.root,
        [*chain.batches[place + 1 :], batch],
        declaration,
        carried=carried,
        seed=seed,
        behind=chain.behind(place) if window else (),
        head=chain.head,
        **options,
    )
    grown = MemoryChain(
        (*chain.beliefs, found.belief),
        (*chain.batches, batch),
        (*chain.replayed, found.replayed),
        chain.root,
    )
    return grown, found


def refit(
    chain: MemoryChain,
    declaration: Declaration,
    *,
    carried: tuple[str, ...],
    seed: int,
    **options: Any,
) -> tuple[MemoryChain, Fit]:
    """Fit all batches of a chain in memory together; the newest belief becomes that of this pooled refit.

    See `lindley.inference.fit.fit` for the options.
    """
    found = fit(
        chain.root, chain.batches, declaration, carried=carried, seed=seed, near=chain.head, **options
    )
    grown = MemoryChain(
        (*chain.beliefs[:-1], found.belief),
        chain.batches,
        (*chain.replayed[:-1], found.replayed),
        chain.root,
    )
    return grown, found
