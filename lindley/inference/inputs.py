"""What a fit is given: where it starts, the data, the options. And the rule where an update starts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from lindley.batch.batch import Batch
from lindley.errors import ModelRefused
from lindley.inference.diagnostics.gate import Thresholds
from lindley.model.declaration import Declaration
from lindley.model.policy import Window

if TYPE_CHECKING:
    from lindley.inference.diagnostics.look_back import Segment
    from lindley.inference.rehearsal import Rehearsal
    from lindley.inference.sampling import FitSettings, Progress
    from lindley.prior.belief import Belief

#: Bytes of draws at most: of each free element the sampler's, the natural scale's, and a copy.
MOST_BYTES = 4 * 2**30


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
    fresh
        How many of the batches, the newest ones, the belief before does not count.
    adds_up
        Whether the rows of two batches add up, as far as it is known (see `lindley.model.meaning`).
    """

    declaration: Declaration
    batches: tuple[Batch, ...]
    carried: tuple[str, ...]
    constants: dict[str, float] | None = None
    whole: bool = False
    fresh: int = 1
    adds_up: bool | None = None

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


@dataclass(frozen=True)
class Step:
    """One step back along a chain, from a belief to the belief that its fit started from.

    Parameters
    ----------
    trusted
        Whether the match of the belief that is left behind is trusted.
    batches, rows
        Batches that its fit contains, and their rows; 0 where there is no way back, as at an imported trace.
    apart
        Whether they were fitted one by one.
    inlined
        Whether the model holds batch values as constants: a table of another length is then compiled anew.
    """

    trusted: bool
    batches: int
    rows: int
    apart: bool = False
    inlined: bool = False


def steps_back(newest_first: Iterable[Step], rows: int, window: Window) -> int:
    """Return how many steps back from its head a chain's next update starts.

    An update starts from the oldest trusted belief, or from genesis, from which on all batches may be fitted
    together with the new one: nothing is lost that need not be. Where none of them is trusted, it goes
    further back to the first one that is, or to genesis, as far as the window stretches; where there is none
    either, it starts from the oldest within that reach. With inlined constants each further batch
    costs a compilation: there an update goes back only from a match that is not trusted.

    Parameters
    ----------
    newest_first
        The steps back from the head.
    rows
        Rows of the new batch.
    window
        What may be fitted again.

    Returns
    -------
    int
        0 to start from the head. As many steps as given to start from what lies behind them all.
    """
    best: int | None = None
    oldest = place = batches = 0
    apart = False
    # Behind the last step is genesis.
    for step in chain(newest_first, (None,)):
        oldest = place
        best = place if step is None or step.trusted else best
        if step is None or not step.batches:
            break
        place, batches, rows, apart = place + 1, batches + step.batches, rows + step.rows, apart or step.apart
        window = Window(0, window.batches) if step.inlined else window
        within = window.holds(rows, batches, apart)
        if not within and (best is not None or not window.stretches_to(rows, batches, apart)):
            break
    return oldest if best is None else best


def require_memory(size: int, settings: FitSettings) -> None:
    """Refuse a fit whose draws would not fit into memory.

    Parameters
    ----------
    size
        Length of x.
    settings
        Of the first attempt.

    Raises
    ------
    ModelRefused
        If the draws of all free elements, their natural values and a copy would take more than `MOST_BYTES`.
    """
    wanted = _bytes_of_a_draw(size, settings) * settings.draws
    if wanted > MOST_BYTES:
        raise ModelRefused(
            "The draws of this model and batch would not fit into memory",
            expected=f"at most {MOST_BYTES / 2**30:.0f} GiB of draws",
            found=f"{wanted / 2**30:.1f} GiB: {settings.chains * settings.draws:,} draws of {size:,} values",
            todo="cut the batch into smaller ones, or integrate variables that each row has out of the model",
        )


def most_draws(size: int, settings: FitSettings) -> int:
    """Return how many draws per chain of x with this length fit into memory."""
    return MOST_BYTES // _bytes_of_a_draw(size, settings)


def _bytes_of_a_draw(size: int, settings: FitSettings) -> int:
    """Return the bytes of one draw of every chain: free elements, their natural values and a copy."""
    return 3 * 8 * size * settings.chains
