"""Amendments of the chain ``coins`` without sampling; see `tests.support.fakes`."""

from __future__ import annotations

from typing import Any

from lindley.batch.batch import Batch
from lindley.ledger.chain import Chain, ChainLink
from lindley.ledger.lineage import read_batches
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain
from lindley.ledger.registration import Registered
from lindley.ledger.writing import LoggedLink
from lindley.model.declaration import Declaration
from lindley.operations.branch import plan_branch
from lindley.operations.log import log_plan
from lindley.operations.plan import Plan
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.rollback import plan_rollback
from lindley.verification.gather import verify_chain
from tests.support import fakes, fits

NAME = "coins"


def logged(ledger: Ledger, plan: Plan) -> LoggedLink:
    """Fit and log a plan; the link is not registered yet."""
    assert plan.noop is None, plan.noop
    return log_plan(ledger, plan, fits.fit_plan(plan))


def retract(ledger: Ledger, declaration: Declaration, *batches: Any) -> Registered:
    """Take batches out."""
    return fakes.done(ledger, plan_retract(ledger, declaration, [str(batch) for batch in batches]))


def correct(ledger: Ledger, declaration: Declaration, old: Any, batch: Batch) -> Registered:
    """Let a batch count in the place of another one."""
    return fakes.done(ledger, plan_correct(ledger, declaration, str(old), batch))


def rollback(ledger: Ledger, declaration: Declaration, link: Any) -> Registered:
    """Go back to a link."""
    return fakes.done(ledger, plan_rollback(ledger, declaration, str(link)))


def branch(ledger: Ledger, declaration: Declaration, source: str, link: Any) -> Registered:
    """Start a branch from a link of a chain."""
    return fakes.done(ledger, plan_branch(ledger, declaration, source, str(link)))


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


def batch_of(ledger: Ledger, declaration: Declaration, link: ChainLink) -> Batch:
    """The batch of a link."""
    return read_batches(ledger, declaration, [link])[0]
