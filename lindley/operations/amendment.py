"""Acts on a chain (retract, correct, rollback): from a plan to a link that is logged.

What is left is fitted together on the newest belief that has seen none of what goes, or, where an earlier
link counts exactly that, is that link's belief. Nothing is deleted, and a chain is never half changed: an
act is one link, which is there or not. Plans are made in `lindley.operations.retract` and
`lindley.operations.rollback`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lindley.batch.batch import Batch
from lindley.inference.diagnostics import Thresholds
from lindley.inference.inputs import Data, Options, Segment, Start
from lindley.inference.sampling import FitSettings, Progress
from lindley.inference.step import step
from lindley.ledger.chain import Chain, ChainLink
from lindley.ledger.lineage import Origin, settled
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_begun
from lindley.ledger.record import parse
from lindley.ledger.references import shown
from lindley.ledger.writing import LoggedLink, RunContext, complete, log_content
from lindley.model.declaration import Declaration
from lindley.operations.copy_link import log_copy
from lindley.operations.plan import Outcome, content_of
from lindley.prior.belief import Belief
from lindley.timing import FETCH, Phases


@dataclass(frozen=True, kw_only=True)
class ActPlan:
    """What a retraction, correction or rollback does to a chain.

    Parameters
    ----------
    chain
        The chain as it was read; the act succeeds its head.
    retracted
        The links whose batches are taken out.
    target
        The link whose belief the chain has afterwards, where nothing needs to be fitted.
    origin
        Where the fit starts, and the links whose batches are fitted again.
    prior, head
        The belief that it starts from (None at genesis), and that of the head.
    batches
        What is fitted, in the order in which it counts: the batches of these links, and among them
        `batch`, the new one of a correction.
    behind
        How the prior came about (see `lindley.operations.update.Plan`).
    noop
        Why nothing needs to be done; None when there is something to do.
    quarantined
        Whether the same act on this very head, with this code, failed the gate before.
    phases
        Seconds by phase since the plan was begun.
    """

    declaration: Declaration
    genesis: bytes
    chain: Chain
    kind: str
    carried: tuple[str, ...]
    constants: dict[str, float]
    retracted: tuple[ChainLink, ...] = ()
    target: ChainLink | None = None
    origin: Origin = field(default_factory=lambda: Origin(None, ()))
    prior: Belief | None = None
    head: Belief | None = None
    batch: Batch | None = None
    batches: tuple[Batch, ...] = ()
    behind: tuple[tuple[Origin, Segment], ...] = ()
    seed: int = 0
    settings: FitSettings | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    noop: str | None = None
    quarantined: bool = False
    phases: Phases = field(default_factory=Phases, compare=False)

    @property
    def head_link(self) -> ChainLink:
        """The head that it succeeds."""
        return self.chain.links[-1]


def opened(
    ledger: Ledger, declaration: Declaration, kind: str, seconds: Mapping[str, float] | None = None
) -> ActPlan:
    """Return the beginning of a plan: a chain that has a head. Completes what a killed writer left open.

    Parameters
    ----------
    seconds
        What took time before, by phase.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain, or it has no link.
    """
    phases = Phases(seconds)
    with phases(FETCH):
        chain, genesis = find_begun(ledger, declaration.name)
        complete(ledger, declaration.name, chain)
    root: dict[str, Any] = parse(genesis)["model"]
    return ActPlan(
        declaration=declaration,
        genesis=genesis,
        chain=chain,
        kind=kind,
        carried=tuple(root["carried"]),
        constants=dict(root["constants"]),
        phases=phases,
    )


def fit_act(plan: ActPlan, *, progress: Progress | None = None) -> Outcome | None:
    """Fit what is left together; see `lindley.inference.step.step`. None where an earlier belief is taken."""
    if plan.target is not None:
        return None
    belief, info = step(
        Start(prior=plan.prior, behind=tuple(made for _, made in plan.behind), near=plan.head),
        Data(
            declaration=plan.declaration,
            batches=plan.batches,
            carried=plan.carried,
            constants=plan.constants,
        ),
        Options(seed=plan.seed, settings=plan.settings, thresholds=plan.thresholds, progress=progress),
    )
    return Outcome(belief=belief, info=info)


def log_act(ledger: Ledger, plan: ActPlan, outcome: Outcome | None, *, context: RunContext) -> LoggedLink:
    """Write an act's artifacts, read them back and verify their digests.

    Raises
    ------
    LedgerCorrupt
        If what was read back is not what was written; the run is kept and marked.
    """
    link, taken_out = plan.head_link.number + 1, [shown(gone) for gone in plan.retracted]
    if plan.target is not None or outcome is None:
        return log_copy(
            ledger,
            plan.target or plan.head_link,
            chain=plan.declaration.name,
            kind=plan.kind,
            previous=plan.head_link.version.record,
            link=link,
            retracted=plan.retracted,
            phases=plan.phases,
            context=context,
        )
    origin = settled(plan.origin, (made for made, _ in plan.behind[: outcome.info.fit.undone]))
    plan.phases.add(outcome.seconds)
    content = content_of(
        plan,
        outcome,
        origin=origin,
        kind=plan.kind,
        previous=plan.head_link.version.record,
        batch=plan.batch,
        newest=plan.batches[-1],
        retracted=plan.retracted,
    )
    return log_content(
        ledger,
        content,
        link=link,
        prior_link=origin.prior.number if origin.prior else None,
        phases=plan.phases,
        context=context,
        taken_out=taken_out,
    )
