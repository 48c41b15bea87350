"""From a batch to a registered link: plan, fit, log, register.

Nothing is written before the fit; a version that exists is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd

from lindley.batch.batch import Batch
from lindley.errors import LostRace
from lindley.inference.diagnostics import Gate
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import Progress
from lindley.inference.step import Info, step
from lindley.ledger.bundle import Content
from lindley.ledger.chain import ChainLink
from lindley.ledger.lineage import Origin
from lindley.ledger.protocol import Ledger
from lindley.ledger.record import Kind, digest
from lindley.ledger.signer import signer_from_environment
from lindley.ledger.writing import LoggedLink, Registered, RunContext, log_content, register_link
from lindley.model.declaration import Declaration
from lindley.operations.import_trace import import_trace
from lindley.operations.update import Plan, plan_update
from lindley.prior.belief import Belief

__all__ = [
    "LoggedLink",
    "Outcome",
    "Plan",
    "Registered",
    "RunContext",
    "fit_plan",
    "import_trace",
    "log_link",
    "plan_update",
    "register_link",
]


@dataclass(frozen=True)
class Outcome:
    """A fitted plan.

    Parameters
    ----------
    belief, info
        What `lindley.inference.step.step` returned.
    audit
        The head beside a pooled refit; see `lindley.operations.rebase.audit_table`.
    """

    belief: Belief
    info: Info
    audit: pd.DataFrame | None = None

    @property
    def trace(self) -> Any:
        """The step's trace."""
        return self.info.trace

    @property
    def summary(self) -> Any:
        """The step's summary table."""
        return self.info.summary

    @property
    def gate(self) -> Gate:
        """The gate's verdict."""
        return self.info.gate

    @property
    def metrics(self) -> dict[str, float]:
        """Scalar results."""
        return self.info.metrics

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase."""
        return self.info.seconds


def fit_plan(plan: Plan, *, progress: Progress | None = None) -> Outcome:
    """Fit a plan; see `lindley.inference.step.step`. Touches no ledger."""
    start = Start(
        prior=plan.prior, behind=tuple(made for _, made in plan.behind), head=plan.before, near=plan.before
    )
    data = Data(
        declaration=plan.declaration,
        batches=(*plan.replayed, plan.batch),
        carried=plan.carried,
        constants=plan.constants,
    )
    options = Options(seed=plan.seed, settings=plan.settings, thresholds=plan.thresholds, progress=progress)
    belief, info = step(start, data, options)
    return Outcome(belief=belief, info=info)


def log_link(ledger: Ledger, plan: Plan, outcome: Outcome, *, context: RunContext) -> LoggedLink:
    """Write a link's artifacts, read them back and verify their digests; starts the chain if it is new.

    Raises
    ------
    LostRace
        If another writer started the chain differently meanwhile.
    LedgerCorrupt
        If what was read back is not what was written; the run is kept and marked.
    KeyRefused
        If the environment names a key for signatures that cannot be used.
    """
    signer_from_environment()  # before the chain is claimed
    declaration = plan.declaration
    if plan.fresh and ledger.claim(declaration.name, plan.genesis, declaration.description) != plan.genesis:
        raise LostRace(
            f"Another writer started the chain {declaration.name} first",
            expected="this batch to be the first",
            found="a genesis record with other carried variables or code",
            todo="run the update again: it continues the chain that exists",
        )
    prior = plan.settled(outcome.info.fit.undone).prior
    plan.phases.add(outcome.seconds)
    return log_content(
        ledger,
        _content(plan, outcome),
        link=plan.link,
        prior_link=prior.number if prior else None,
        phases=plan.phases,
        context=context,
    )


def _content(plan: Plan, outcome: Outcome) -> Content:
    """Collect what the record of an update says."""
    return content_of(
        plan,
        outcome,
        origin=plan.settled(outcome.info.fit.undone),
        kind=Kind.UPDATE,
        previous=plan.previous,
        batch=plan.batch,
    )


class Fitted(Protocol):
    """What a record takes from the plan of any fit."""

    @property
    def declaration(self) -> Declaration:
        """The chain's declaration."""

    @property
    def genesis(self) -> bytes:
        """Bytes of the genesis record."""

    @property
    def carried(self) -> tuple[str, ...]:
        """Names of the carried variables."""

    @property
    def constants(self) -> dict[str, float]:
        """Frozen constants of preprocessing."""


def content_of(
    plan: Fitted,
    outcome: Outcome,
    *,
    origin: Origin,
    kind: str,
    previous: str,
    batch: Batch | None,
    newest: Batch | None = None,
    retracted: Sequence[ChainLink] = (),
) -> Content:
    """Collect what the record of a fit says, whatever its kind.

    Parameters
    ----------
    plan, outcome
        What was fitted, and what came of it.
    origin
        What the fit started from, and the links whose batches were fitted again.
    kind, previous
        Kind of the link, and record digest of the head that it succeeds.
    batch, newest
        The link's own batch; where that is not the newest of those that were fitted, the newest.
    retracted
        The links whose batches are taken out.
    """
    return Content(
        declaration=plan.declaration,
        kind=kind,
        previous=previous,
        prior=origin.prior.version.record if origin.prior else digest(plan.genesis),
        carried=plan.carried,
        constants=plan.constants,
        info=outcome.info,
        replayed=tuple(link.version.record for link in origin.links),
        retracted=tuple(link.version.record for link in retracted),
        batch=batch,
        newest=newest,
        audit=outcome.audit,
    )
