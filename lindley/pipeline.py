"""From a batch to a registered link: plan, fit, log, register.

Nothing is written before the fit; a version that exists is complete.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lindley.belief import Belief
from lindley.bundle import Content
from lindley.diagnostics import Gate
from lindley.errors import LostRace
from lindley.fit import Progress
from lindley.importing import import_trace
from lindley.ledger.protocol import Ledger
from lindley.linking import LoggedLink, Registered, RunContext, log_content, register_link
from lindley.planning import Plan, plan_update
from lindley.record import UPDATE
from lindley.update import Info, step

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
    """A fitted plan."""

    belief: Belief
    info: Info

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
        return self.info.figures

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by phase."""
        return self.info.seconds


def fit_plan(plan: Plan, *, progress: Progress | None = None) -> Outcome:
    """Fit a plan; see `lindley.update.step`. Touches no ledger."""
    belief, info = step(
        plan.prior,
        plan.batch,
        plan.declaration,
        carried=plan.carried,
        seed=plan.seed,
        settings=plan.settings,
        thresholds=plan.thresholds,
        progress=progress,
    )
    return Outcome(belief=belief, info=info)


def log_link(ledger: Ledger, plan: Plan, outcome: Outcome, *, context: RunContext) -> LoggedLink:
    """Write a link's artifacts, read them back and verify their digests; starts the chain if it is new.

    Raises
    ------
    LostRace
        If another writer started the chain differently meanwhile.
    LedgerCorrupt
        If what was read back is not what was written; the run is kept and marked.
    """
    declaration = plan.declaration
    if plan.fresh and ledger.claim(declaration.name, plan.genesis, declaration.description) != plan.genesis:
        raise LostRace(
            f"Another writer started the chain {declaration.name} first",
            expected="this batch to be the first",
            found="a genesis record with other carried variables or code",
            todo="run the update again: it continues the chain that exists",
        )
    return log_content(
        ledger,
        _content(plan, outcome),
        link=plan.link,
        prior_link=plan.head.number if plan.head else None,
        seconds=plan.seconds | outcome.seconds,
        context=context,
    )


def _content(plan: Plan, outcome: Outcome) -> Content:
    """Collect what the record of an update says."""
    info = outcome.info
    return Content(
        declaration=plan.declaration,
        kind=UPDATE,
        previous=plan.previous,
        prior=plan.previous,
        prior_belief=plan.prior.matched.digest if plan.prior else None,
        batch=plan.batch,
        matched=outcome.belief.matched,
        trace=info.trace,
        summary=info.summary,
        gate=info.gate,
        figures=info.figures,
        # As text: a 63-bit integer has no exact form in canonical JSON.
        sampler=info.settings.as_dict() | {"seed": str(plan.seed), "attempt": info.attempts},
        thresholds=plan.thresholds.as_dict(),
        model={
            "digest": plan.declaration.model_digest,
            "graph": info.graph_digest,
            "carried": list(plan.carried),
            "carry": dict(plan.declaration.carry),
            "likelihood": info.likelihood,
            "genesis": info.genesis,
            "baked_constants": info.baked_constants,
        },
    )
