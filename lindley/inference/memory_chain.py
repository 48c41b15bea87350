"""A chain in memory: updates as the pipeline makes them, without a ledger."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lindley.batch.batch import Batch
from lindley.inference.diagnostics.look_back import Segment
from lindley.inference.info import Fit
from lindley.inference.inputs import Data, Options, Start, Step, steps_back
from lindley.inference.step import fit
from lindley.model.policy import Window
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
            rows=sum(batch.rows for batch in self.batches[first : place + 1]),
        )

    def behind(self, place: int) -> tuple[Segment, ...]:
        """Return how the belief at a place came about, and what came before it, newest first."""
        found = []
        while place >= 0:
            found.append(self.segment(place))
            place -= found[-1].count
        return tuple(found)

    def starting_point(self, rows: int, window: Window) -> tuple[Start, tuple[Batch, ...]]:
        """Return where the next update starts, and the batches that are fitted again with the new one.

        Parameters
        ----------
        rows, window
            Rows of the new batch, and what may be fitted again.
        """
        behind, place = self.behind(len(self.beliefs) - 1), len(self.beliefs)
        steps = list[Step]()
        for segment in behind:
            belief = self.beliefs[place - 1]
            steps.append(Step(belief.trusted, segment.count, segment.rows, belief.apart, belief.inlined))
            place -= segment.count
        back = steps_back(steps, rows, window)
        place = len(self.beliefs) - sum(segment.count for segment in behind[:back])
        start = Start(
            prior=self.beliefs[place - 1] if place else self.root,
            behind=behind[back:] if window.batches else (),
            head=self.head,
        )
        return start, self.batches[place:]


def advance(chain: MemoryChain, data: Data, options: Options) -> tuple[MemoryChain, Fit]:
    """Update a chain in memory with the newest batch of `data`, as the pipeline would.

    A pooled refit that the policy asks for is the caller's: see `refit`.
    """
    start, again = chain.starting_point(data.newest.rows, data.declaration.policy.window)
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
