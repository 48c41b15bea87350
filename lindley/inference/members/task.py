"""What the fit of one member is given, and what the fits of all members have in common."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from lindley.batch.batch import Batch
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import FitSettings
from lindley.model.declaration import Declaration
from lindley.prior.belief import Belief
from lindley.prior.matched import MatchedPrior

if TYPE_CHECKING:
    from lindley.inference.diagnostics.look_back import Segment

#: Draws per chain: independent ones are nearly all effective, and the time of a member grows with them.
DRAWS = 500

#: The parts of a member's key, e.g. ``(12, "88")`` for store 12 and sku 88.
type Key = tuple[object, ...]


@dataclass(frozen=True, kw_only=True)
class MemberTask:
    """One member's rows and where its fit starts.

    Its result depends on these fields, the declaration and the options only.

    Parameters
    ----------
    key
        What identifies the member; it is handed on and not looked at.
    batch
        The member's new rows.
    seed
        Seed of everything random.
    prior
        The belief that the fit starts from; a matched prior alone for a new member that starts from others'
        beliefs (see `lindley.inference.members.population`); None for the model's own priors.
    earlier
        Batches of the member that are fitted again together with the new one, oldest first: `prior` is then
        the belief before the first of them.
    behind, head, near
        As in `lindley.inference.inputs.Start`: how `prior` came about, newest first; the belief before the
        new batch where that is not `prior`; a belief close to the result.
    fresh
        How many of the batches, the newest ones, the belief before does not count.
    """

    key: Key
    batch: Batch
    seed: int
    prior: Belief | MatchedPrior | None = None
    earlier: tuple[Batch, ...] = ()
    behind: tuple[Segment, ...] = ()
    head: Belief | None = None
    near: Belief | None = None
    fresh: int = 1

    def start(self) -> Start:
        """Return where the fit starts."""
        prior = starting(self.prior) if isinstance(self.prior, MatchedPrior) else self.prior
        return Start(prior=prior, behind=self.behind, head=self.head, near=self.near)


def starting(matched: MatchedPrior) -> Belief:
    """Return a belief with nothing behind it: no batches, no score, no error of earlier matches."""
    return Belief(matched=matched, budget=0.0, covered=0, log_score=0.0)


@dataclass(frozen=True, kw_only=True)
class MemberOptions:
    """How all members are fitted.

    Parameters
    ----------
    carried
        Names of the carried variables.
    constants
        Frozen constants, where the declaration has some; None to compute them from each member's batches.
    settings
        Sampler settings; by default those of the policy, with `DRAWS` draws per chain.
    thresholds
        The gate's thresholds.
    draws
        Draws on the natural scale that a result holds at most, evenly spaced; none by default. The same task
        with more of them gives the same result with more draws.
    """

    carried: tuple[str, ...]
    constants: dict[str, float] | None = None
    settings: FitSettings | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    draws: int = 0

    def data(self, declaration: Declaration, task: MemberTask) -> Data:
        """Return what a member's fit is about."""
        return Data(
            declaration=declaration,
            batches=(*task.earlier, task.batch),
            carried=self.carried,
            constants=self.constants,
            fresh=task.fresh,
        )

    def options(self, declaration: Declaration, task: MemberTask) -> Options:
        """Return how a member is fitted."""
        settings = self.settings or replace(FitSettings.of(declaration.policy), draws=DRAWS)
        return Options(seed=task.seed, settings=settings, thresholds=self.thresholds)
