"""A chain in memory: updates as the pipeline makes them, without a ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lindley.batch.batch import Batch
from lindley.inference.fit import Fit, fit
from lindley.inference.inputs import Data, Options, Segment, Start, steps_back
from lindley.prior.belief import Belief


@dataclass(frozen=True)
class MemoryChain:
    """A chain in memory, without a ledger.

    Parameters
    ----------
    beliefs, batches
        The belief after each batch, and the batches, oldest first.
    replayed
        For each fit, the number of batches before its own that were fitted with it.
    root
        The belief that the chain starts from, before which it never goes back; None for genesis.
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

    def behind(self, place: int) -> tuple[Segment, ...]:
        """Return how the belief at a place came about, and what came before it, newest first."""
        found = []
        while place >= 0:
            found.append(self.segment(place))
            place -= found[-1].count
        return tuple(found)

    def starting_point(self, window: int) -> tuple[Start, tuple[Batch, ...]]:
        """Return where the next update starts, and the batches that are fitted again with the new one."""
        steps = steps_back(((belief.trusted, 1) for belief in reversed(self.beliefs)), window)
        place = len(self.beliefs) - steps - 1
        start = Start(
            prior=self.beliefs[place] if place >= 0 else self.root,
            behind=self.behind(place) if window else (),
            head=self.head,
        )
        return start, self.batches[place + 1 :]


def advance(chain: MemoryChain, data: Data, options: Options) -> tuple[MemoryChain, Fit]:
    """Update a chain in memory with the newest batch of `data`, as the pipeline would."""
    start, again = chain.starting_point(data.declaration.policy.window)
    found = fit(start, replace(data, batches=(*again, data.newest)), options)
    grown = MemoryChain(
        (*chain.beliefs, found.belief),
        (*chain.batches, data.newest),
        (*chain.replayed, found.replayed),
        chain.root,
    )
    return grown, found


def refit(chain: MemoryChain, data: Data, options: Options) -> tuple[MemoryChain, Fit]:
    """Fit all batches of a chain in memory together; the newest belief becomes that of this pooled refit.

    The batches are those of the chain, whatever `data` holds.
    """
    found = fit(Start(prior=chain.root, near=chain.head), replace(data, batches=chain.batches), options)
    grown = replace(
        chain,
        beliefs=(*chain.beliefs[:-1], found.belief),
        replayed=(*chain.replayed[:-1], found.replayed),
    )
    return grown, found
