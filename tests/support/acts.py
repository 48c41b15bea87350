"""Acts on the chain ``coins`` without sampling; see `tests.support.fakes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from lindley.batch.batch import Batch
from lindley.ledger.chain import Chain
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain
from lindley.ledger.writing import LoggedLink, Registered, RunContext, register_link
from lindley.model.declaration import Declaration
from lindley.operations.amendment import ActPlan, log_act
from lindley.operations.plan import Outcome
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.rollback import plan_rollback
from lindley.target.prepare import joined
from lindley.verification.gather import verify_chain
from tests.support import fakes

NAME = "coins"


def fit(plan: ActPlan, *, passed: bool = True) -> Outcome | None:
    """Return what `lindley.operations.amendment.fit_act` would, from a posterior on a grid."""
    if plan.target is not None:
        return None
    stand_in: Any = SimpleNamespace(
        prior=plan.prior,
        batch=joined(plan.batches),
        seed=plan.seed,
        before=None,
        link=plan.head_link.number + 1,
    )
    found = fakes.fit(stand_in, passed=passed)
    return Outcome(belief=found.belief, info=fakes.pooled(found, len(plan.batches), {}))


def logged(ledger: Ledger, plan: ActPlan, *, passed: bool = True) -> LoggedLink:
    """Fit and log a plan; the link is not registered yet."""
    assert plan.noop is None, plan.noop
    return log_act(ledger, plan, fit(plan, passed=passed), context=RunContext())


def done(ledger: Ledger, plan: ActPlan, *, passed: bool = True) -> Registered:
    """Fit, log and register a plan."""
    return register_link(ledger, logged(ledger, plan, passed=passed))


def retract(ledger: Ledger, declaration: Declaration, *batches: Any) -> Registered:
    """Take batches out."""
    return done(ledger, plan_retract(ledger, declaration, [str(batch) for batch in batches]))


def correct(ledger: Ledger, declaration: Declaration, old: Any, batch: Batch) -> Registered:
    """Let a batch count in the place of another one."""
    return done(ledger, plan_correct(ledger, declaration, str(old), batch))


def rollback(ledger: Ledger, declaration: Declaration, link: Any) -> Registered:
    """Go back to a link."""
    return done(ledger, plan_rollback(ledger, declaration, str(link)))


@dataclass
class ActFits:
    """Stands for `fit_act`: counts the fits, and fails them on request."""

    passed: bool = True
    error: Exception | None = None
    during: Callable[[], object] = lambda: None
    plans: list[ActPlan] = field(default_factory=list)

    def __call__(
        self, plan: ActPlan, *, progress: Callable[[int, int], None] | None = None
    ) -> Outcome | None:
        self.plans.append(plan)
        if self.error is not None:
            raise self.error
        outcome = fit(plan, passed=self.passed)
        self.during()
        return outcome


# -- reading ------------------------------------------------------------------------------------------


def chain_of(ledger: Ledger) -> Chain:
    """The chain as it is read."""
    return find_chain(ledger, NAME)


def counts(ledger: Ledger) -> list[int]:
    """Numbers of the links that the head counts."""
    return [link.number for link in chain_of(ledger).at_head]


def record_digest(ledger: fakes.MemoryLedger, number: int) -> str:
    """The record's digest of a version."""
    return ledger.models[NAME].versions[number].tags["lindley.record"]


def is_sound(ledger: Ledger) -> bool:
    """Whether no rule finds anything; shows what one finds."""
    findings = verify_chain(ledger, NAME).findings
    assert findings == ()
    return True
