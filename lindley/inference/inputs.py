"""What a fit is given: where it starts, the data, the options. And the rule where an update starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lindley.batch.batch import Batch
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.rehearsal import Rehearsal
from lindley.inference.sampling import FitSettings, Progress
from lindley.model.declaration import Declaration
from lindley.prior.belief import Belief


@dataclass(frozen=True)
class Segment:
    """How a belief came about: the belief that its fit started from, and the batches that it was fitted on.

    Parameters
    ----------
    start
        Returns the belief that the fit started from; None for genesis.
    batches
        Returns its batches, oldest first.
    count
        Number of these batches.
    """

    start: Callable[[], Belief | None]
    batches: Callable[[], tuple[Batch, ...]]
    count: int


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a fit starts.

    Parameters
    ----------
    prior
        The belief that the fit starts from; None for the model's own priors (genesis).
    behind
        How `prior` came about, and what came before it, newest first. Where hindsight shows that a match
        moved the result, the batches of these segments are fitted again too.
    head
        The belief before the newest batch, where that is not `prior`; None where it is unknown (a pooled
        refit).
    near
        A belief close to the result, in whose whitened space a fit from genesis moves; the belief before
        the newest batch by default.
    """

    prior: Belief | None = None
    behind: tuple[Segment, ...] = ()
    head: Belief | None = None
    near: Belief | None = None

    def before(self, batches: int) -> Belief | None:
        """Return the belief before the newest of this many batches; None at genesis or where unknown."""
        return self.prior if batches == 1 else self.head


@dataclass(frozen=True, kw_only=True)
class Data:
    """What is fitted.

    Parameters
    ----------
    declaration
        The chain's declaration.
    batches
        The batches, oldest first; the last one is the newest.
    carried
        Names of the carried variables.
    constants
        Frozen constants, where the declaration has some; None to compute them from the batches.
    whole
        Fit all rows as one model, where that can be, although its rows may not add up.
    """

    declaration: Declaration
    batches: tuple[Batch, ...]
    carried: tuple[str, ...]
    constants: dict[str, float] | None = None
    whole: bool = False

    @property
    def newest(self) -> Batch:
        """The newest batch."""
        return self.batches[-1]


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a fit is made.

    Parameters
    ----------
    seed
        Seed of everything random.
    settings
        Sampler settings; those of the policy by default.
    thresholds
        The gate's thresholds.
    progress
        Called from another thread with the number of steps done and the number of all steps.
    rehearsed
        Called with what was found out before sampling; what it raises ends the step.
    """

    seed: int
    settings: FitSettings | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    progress: Progress | None = None
    rehearsed: Callable[[Rehearsal], object] | None = None


def steps_back(newest_first: Iterable[tuple[bool, int]], window: int) -> int:
    """Return how many steps back from its head a chain's next update starts.

    An update starts from the newest belief whose match is trusted. A belief without a good match yet (an
    early one, after few rows) is not carried forward as it is: the batches since the last trusted belief
    are fitted again together with the new one. No information is lost then, and the window bounds the cost.

    Parameters
    ----------
    newest_first
        For each step back: whether the belief there is trusted, and how many batches the belief has that
        the next one back lacks (0 where there is no way back, as at an imported trace).
    window
        Largest number of batches that are fitted again.

    Returns
    -------
    int
        0 to start from the head. As many steps as given to start from what lies behind them all.
    """
    steps = total = 0
    for trusted, batches in newest_first:
        total += batches
        if trusted or not batches or total > window:
            break
        steps += 1
    return steps
