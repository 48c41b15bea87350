"""One plan for every kind of link: it is made, then fitted, then logged.

Each kind has a function that makes its plan (`plan_update`, `plan_rebase`, `plan_retract`, `plan_correct`,
`plan_rollback`, `plan_branch`, `plan_import`); `fit_plan` and `lindley.operations.log.log_plan` take any of
them. Nothing is written before the fit, and a version that exists is complete: an operation is one link,
which is there or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import hypot
from typing import TYPE_CHECKING, Any

from lindley.batch.batch import Batch
from lindley.inference.diagnostics.gate import Thresholds
from lindley.inference.inputs import Data, Options, Start
from lindley.ledger.chain import Chain, ChainLink, Version
from lindley.ledger.lineage import Origin, settled
from lindley.ledger.record import APPROVED, REJECTED, Kind, Status
from lindley.model.declaration import Declaration
from lindley.prior.belief import Audited
from lindley.report.tables import highlights, not_counted
from lindley.timing import COMPILE, Phases

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from lindley.inference.diagnostics.gate import Gate
    from lindley.inference.info import Info
    from lindley.inference.rehearsal import Rehearsal
    from lindley.inference.sampling import FitSettings, Progress
    from lindley.model.graph import ModelGraph
    from lindley.model.meaning.adding_up import Meaning
    from lindley.operations.panel.plan import PanelPlan
    from lindley.prior.belief import Belief


@dataclass(frozen=True)
class Adopted:
    """A trace that was sampled elsewhere, from which a chain starts.

    Parameters
    ----------
    trace
        In ArviZ's schema, with the group posterior.
    graph
        The chain's model.
    source
        Where the trace comes from, for the record.
    """

    trace: xr.DataTree
    graph: ModelGraph
    source: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a person decided on a version that is no link.

    Parameters
    ----------
    version
        A candidate, or a quarantined version.
    approved
        Whether it becomes the head; otherwise it was rejected.
    who, why
        Who decided so, and why.
    """

    version: Version
    approved: bool
    who: str
    why: str

    @property
    def verdict(self) -> str:
        """The decision in one word, as the record has it."""
        return APPROVED if self.approved else REJECTED


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be done to a chain, whatever the kind of the new link.

    Parameters
    ----------
    kind
        Kind of the new link.
    declaration
        The chain's declaration.
    genesis
        Bytes of the chain's genesis record; proposed ones while the chain is `fresh`.
    chain
        The chain as it was read; the new link succeeds its head.
    fresh
        Whether the chain does not exist yet: `log_plan` claims it.
    carried, constants
        Names of the carried variables, and frozen constants of preprocessing, as genesis states them.
    origin, behind
        The link that the fit starts from and the links whose batches it contains; how that link came about,
        newest first.
    start
        The same as beliefs.
    batches
        What is fitted, in the order in which it counts.
    batch
        The new link's own batch, one of `batches`; None for kinds without one.
    retracted
        What is taken out: batches that the head counts, and quarantined ones that wait (as link 0).
    joined
        The quarantined batches that count from the new link on, in order; they are among `batches`.
    source
        Where a pull read the rows, as in the record; None where no pull is at work.
    target
        The link whose belief the chain has afterwards; None where a fit is needed.
    decision
        What a person decided on a version, which then needs no fit either; None where nothing was.
    adopted
        The trace that takes the place of a fit; None for other kinds than imports.
    seed
        Derived from the head's, the batch's (or the kind's) and the model's digests.
    settings
        Sampler settings; None for those of the chain's policy.
    thresholds
        The gate's thresholds.
    compared
        The head's parameters, with which a pooled refit is compared; None for other kinds.
    noop
        Why nothing needs to be done; None when there is something to do.
    needed
        What the head's record states of its sampling, where its fit began at the same place as this one;
        None where it is unknown or not to be taken up.
    meaning
        Whether the rows of two batches add up, as the head's record states it; None where it has to be tried.
    structure
        Of the model that the plan's own batch makes, or the newest one (`lindley.model.structure`).
    warnings
        What was found out while planning, for the gate.
    whole
        Whether all rows are fitted as one model, where that can be: an audit must not repeat what it checks.
    members
        Of a panel, the members that are fitted and all members before; None for a chain with one belief.
    tried
        What the same is that was fitted on this very head, with this code, before: quarantined, a candidate,
        or rejected; None where it was not.
    held
        The candidate on which a person has to decide first; None where there is none.
    phases
        Seconds by phase since the batch was read or the plan was begun.
    """

    kind: Kind
    declaration: Declaration
    genesis: bytes
    chain: Chain
    fresh: bool = False
    carried: tuple[str, ...]
    constants: dict[str, float]
    origin: Origin = field(default_factory=lambda: Origin(None, ()))
    behind: tuple[Origin, ...] = ()
    start: Start = field(default_factory=Start)
    batches: tuple[Batch, ...] = ()
    batch: Batch | None = None
    retracted: tuple[ChainLink, ...] = ()
    joined: tuple[ChainLink, ...] = ()
    source: dict[str, Any] | None = None
    target: ChainLink | None = None
    decision: Decision | None = None
    adopted: Adopted | None = None
    seed: int = 0
    settings: FitSettings | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    compared: pd.DataFrame | None = None
    noop: str | None = None
    needed: Mapping[str, Any] | None = None
    meaning: Meaning | None = None
    structure: str = ""
    warnings: tuple[str, ...] = ()
    whole: bool = False
    members: PanelPlan | None = None
    tried: Status | None = None
    held: Version | None = None
    phases: Phases = field(default_factory=Phases, compare=False)

    @property
    def previous(self) -> str:
        """Record digest of the head, or of the genesis record."""
        return self.chain.head_digest

    @property
    def link(self) -> int:
        """Number that the new link will have if it wins."""
        return len(self.chain.links) + 1

    @property
    def fits(self) -> bool:
        """Whether the belief comes from a fit, or from an adopted trace, and is not there already."""
        return self.target is None and self.decision is None

    @property
    def compiling(self) -> str:
        """What a fit compiles, as a sentence: of code that the head does not have; otherwise empty."""
        if not self.fits or self.adopted is not None or self.meaning is not None:
            return ""
        return (
            f"Compiling {self.declaration.name}, whose code is new: log density, gradient and quantities; "
            "later updates use them again"
        )

    @property
    def waiting(self) -> tuple[Version, ...]:
        """Quarantined versions whose batches the new link does not count either."""
        counted = {link.version.record for link in (*self.joined, *self.retracted)}
        own = self.batch.digest if self.batch else ""
        return tuple(v for v in self.chain.waiting if v.batch != own and v.record not in counted)

    @property
    def in_order(self) -> bool:
        """Whether each batch continues from the one before, so that none may be left out between two."""
        return self.declaration.in_order

    def settled(self, undone: int) -> Origin:
        """Return what the fit started from in the end, after so many of `behind` were fitted again."""
        return settled(self.origin, self.behind[:undone])


@dataclass(frozen=True)
class Outcome:
    """A fitted plan.

    Parameters
    ----------
    belief, info
        What `lindley.inference.step.step` returned, or `lindley.inference.foreign_trace.adopt`.
    audit
        The head beside a pooled refit (see `lindley.operations.audit.audit_table`); None for other kinds.
    """

    belief: Belief
    info: Info
    audit: pd.DataFrame | None = None

    @property
    def gate(self) -> Gate:
        """Whether the fit passes the gate, and why not."""
        return self.info.gate

    @property
    def metrics(self) -> dict[str, float]:
        """Scalar results."""
        return self.info.metrics

    @property
    def notes(self) -> tuple[str, ...]:
        """What was found out before the first fit, in sentences."""
        return self.info.notes

    @property
    def advice(self) -> tuple[str, ...]:
        """What would make the next updates cheaper, in sentences."""
        return self.info.advice

    @property
    def undone(self) -> int:
        """Number of segments behind the prior that were fitted again."""
        return self.info.fit.undone

    def highlights(self, seconds: float | None) -> tuple[str, ...]:
        """Return what matters of the link, in sentences; `seconds` is what it took."""
        compiling = self.info.seconds.get(COMPILE, 0.0)
        return highlights(self.info.metrics, self.info.summary, seconds, compiling)


def fit_plan(plan: Plan, *, progress: Progress | None = None) -> Outcome | None:
    """Fit a plan; None where a belief is taken that is there already. Touches no ledger.

    A pooled refit is compared with the head on the way.
    """
    if not plan.fits:
        return None
    # To save start-up time: a batch that is known is planned and needs no sampler.
    from lindley.inference.foreign_trace import adopt
    from lindley.inference.modes.attempts import resumed
    from lindley.inference.sampling import FitSettings
    from lindley.inference.step import step
    from lindley.operations.checking.rehearsed import findings_of, meaning_of

    settings = plan.settings
    if settings is None and plan.needed is not None:
        settings = resumed(FitSettings.of(plan.declaration.policy), plan.needed, plan.thresholds)
    options = Options(seed=plan.seed, settings=settings, thresholds=plan.thresholds, progress=progress)
    if plan.adopted is not None:
        return Outcome(*adopt(plan.adopted.trace, plan.adopted.graph, plan.adopted.source, options))
    data = Data(
        declaration=plan.declaration,
        batches=plan.batches,
        carried=plan.carried,
        constants=plan.constants,
        whole=plan.whole,
        fresh=1 + len(plan.joined),
    )
    found, notes = plan.meaning or meaning_of(data), list[str]()
    data = replace(data, adds_up=found.adds_up)

    def first(rehearsal: Rehearsal) -> None:
        findings = findings_of(rehearsal, data, found)
        notes.extend(findings.lines())
        if findings.prediction:
            rehearsal.omissions.add("predictions of the registered belief", findings.prediction)

    # Of code that the chain's head does not have, more is found out than of code that has been fitted.
    belief, info = step(plan.start, data, options if plan.meaning else replace(options, rehearsed=first))
    if plan.whole:
        notes.extend(_limits(found, info.fit.provenance.pooled))
    if not _other_length(plan):
        info = replace(info, advice=())
    return completed(plan, belief, info.stating(found, tuple(notes)))


def _limits(found: Meaning, pooled: str) -> tuple[str, ...]:
    """Return what an audit has to say where the rows of batches do not add up."""
    if found.adds_up is not False:
        return ()
    how = "one model of all rows was fitted; where each batch is a series of its own, that is another model"
    if pooled == "terms":
        how = "no single model of all rows could be built: this audit repeats what the links did"
    return (*found.warnings, how)


def _other_length(plan: Plan) -> bool:
    """Whether a batch is the first of another length: only then did constants cause a compilation.

    The first link is a form of its own: all later ones have a matched prior.
    """
    before = {link.version.rows for link in plan.chain.links[1:] if link.version.batch}
    return plan.batch is not None and len(before) == 1 and plan.batch.rows not in before


def completed(plan: Plan, belief: Belief, info: Info) -> Outcome:
    """Return the outcome of a fit with what its chain adds.

    That is the quarantined batches that the new link does not count, and for a pooled refit the comparison
    with the head.
    """
    files = [version.origin for version in plan.waiting]
    warnings = (*plan.warnings, *((not_counted(files),) if files else ()))
    info = info.with_findings({"quarantined": float(len(files))}, warnings)
    if plan.compared is None:
        return Outcome(belief, info)
    # To save start-up time, as in `fit_plan`.
    from lindley.operations.audit import audit_error, audit_metrics, audit_table

    table = audit_table(plan.compared, info.summary)
    metrics, head = audit_metrics(table), plan.chain.head
    earlier = head.version.metrics if head is not None else {}
    if matches := int(earlier.get("unmeasured", 0)):
        error = audit_error(table, plan.compared, plan.declaration.carry.values())
        each = (found.get("monte_carlo_error", 0.0) for found in (earlier, info.metrics))
        audited = Audited.measured(error, hypot(*each), matches, Audited.of(earlier))
        belief, metrics = replace(belief, audited=audited), metrics | audited.as_metrics()
    return Outcome(belief, info.with_findings(metrics), table)
