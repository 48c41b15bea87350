"""One plan for every kind of link: it is made, then fitted, then logged.

Each kind has a function that makes its plan (`plan_update`, `plan_rebase`, `plan_retract`, `plan_correct`,
`plan_rollback`, `plan_branch`, `plan_import`); `fit_plan` and `log_plan` take any of them. Nothing is written
before the fit, and a version that exists is complete: an operation is one link, which is there or not.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd
import xarray as xr

from lindley.batch.batch import Batch
from lindley.errors import LostRace, ModelRefused
from lindley.inference.diagnostics import Gate, Thresholds
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import FitSettings, Progress
from lindley.inference.step import Info, adopt, step
from lindley.ledger.bundle import Content
from lindley.ledger.chain import Chain, ChainLink, walk
from lindley.ledger.lineage import Origin, belief_of, in_context, read_batches, segments_behind, settled
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_begun, read_belief, record_of
from lindley.ledger.record import Kind, canonical, digest, genesis_record, parse
from lindley.ledger.references import shown
from lindley.ledger.signer import signer_from_environment
from lindley.ledger.writing import LoggedLink, RunContext, complete, log_content
from lindley.model import graph
from lindley.model.declaration import Declaration
from lindley.operations.audit import audit_metrics, audit_table
from lindley.operations.copy_link import log_copy
from lindley.prior.belief import Belief
from lindley.report.note import NotedLink
from lindley.seeds import derive_seed
from lindley.timing import FETCH, Phases


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
    graph: graph.ModelGraph
    source: dict[str, str]


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
        The links whose batches are taken out.
    target
        The link whose belief the chain has afterwards; None where a fit is needed.
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
    quarantined
        Whether the same was tried on this very head, with this code, before and failed the gate.
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
    target: ChainLink | None = None
    adopted: Adopted | None = None
    seed: int = 0
    settings: FitSettings | None = None
    thresholds: Thresholds = field(default_factory=Thresholds)
    compared: pd.DataFrame | None = None
    noop: str | None = None
    quarantined: bool = False
    phases: Phases = field(default_factory=Phases, compare=False)

    @property
    def previous(self) -> str:
        """Record digest of the head, or of the genesis record."""
        return self.chain.head_digest

    @property
    def link(self) -> int:
        """Number that the new link will have if it wins."""
        return len(self.chain.links) + 1

    def settled(self, undone: int) -> Origin:
        """Return what the fit started from in the end, after so many of `behind` were fitted again."""
        return settled(self.origin, self.behind[:undone])


@dataclass(frozen=True)
class Outcome:
    """A fitted plan.

    Parameters
    ----------
    belief, info
        What `lindley.inference.step.step` returned, or `adopt`.
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


# -- making a plan ------------------------------------------------------------------------------------


def fresh_chain(
    declaration: Declaration, kind: Kind, frame: pd.DataFrame, phases: Phases, batch: Batch | None = None
) -> Plan:
    """Return the beginning of a plan for a chain that does not exist yet.

    Parameters
    ----------
    frame
        Rows from which the model is built and its constants are computed.
    """
    constants = declaration.frozen_constants(frame)
    carried = graph.carried_variables(declaration, frame, constants)
    model = {
        "digest": declaration.model_digest,
        "carried": list(carried),
        "carry": dict(declaration.carry),
        "observed": list(declaration.observed),
        "row_key": list(declaration.row_key),
        "constants": constants,
        "context": declaration.context,
    }
    genesis = canonical(genesis_record(declaration.name, model))
    return Plan(
        kind=kind,
        declaration=declaration,
        genesis=genesis,
        chain=walk(digest(genesis), []),
        fresh=True,
        carried=carried,
        constants=constants,
        seed=derive_seed(digest(genesis), batch.digest if batch else kind, declaration.model_digest),
        batch=batch,
        phases=phases,
    )


def on_chain(
    ledger: Ledger, declaration: Declaration, kind: Kind, found: tuple[Chain, bytes], *, fresh: bool = False
) -> Plan:
    """Return the beginning of a plan for a chain and its genesis record.

    Completes what a killed writer left open, unless the chain is `fresh`: to be claimed.
    """
    chain, genesis = found
    if not fresh:
        complete(ledger, declaration.name, chain)
    model: dict[str, Any] = parse(genesis)["model"]
    return Plan(
        kind=kind,
        declaration=declaration,
        genesis=genesis,
        chain=chain,
        fresh=fresh,
        carried=tuple(model["carried"]),
        constants=dict(model["constants"]),
    )


def on_begun(ledger: Ledger, declaration: Declaration, kind: Kind, batch: Batch | None = None) -> Plan:
    """Return the beginning of a plan for a chain that has a link; see `on_chain`.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain, or it has no link.
    """
    phases = Phases(batch.seconds if batch else None)
    with phases(FETCH):
        plan = on_chain(ledger, declaration, kind, find_begun(ledger, declaration.name))
    return replace(plan, batch=batch, phases=phases)


def read_head(
    ledger: Ledger, plan: Plan, *, accept_model_change: bool
) -> tuple[dict[str, Any], Belief | None]:
    """Return the record and belief of the head: the genesis record and None before the first link.

    Raises
    ------
    ModelRefused
        If the model's code is not the head's and that is not accepted.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    head = plan.chain.head
    record, belief = read_belief(ledger, head) if head else (parse(plan.genesis), None)
    if not accept_model_change:
        refuse_model_change(plan.declaration, record, plan.chain)
    return record, belief


def refuse_model_change(declaration: Declaration, record: dict[str, Any], chain: Chain) -> None:
    """Refuse a model whose code is not that of a record, the head's.

    Raises
    ------
    ModelRefused
        If it is not.
    """
    if record["model"]["digest"] == declaration.model_digest:
        return
    where = f"link {chain.head.number}" if chain.head else "the chain's genesis"
    raise ModelRefused(
        f"The code of the model {declaration.name} changed since {where}",
        expected=f"model digest {record['model']['digest'][:12]}",
        found=declaration.model_digest[:12],
        todo="undo the change, or pass --accept-model-change: the new code is then recorded with the link",
    )


def with_fit(
    ledger: Ledger, plan: Plan, origin: Origin, head: Belief | None, place: int | None = None
) -> Plan:
    """Return a plan with everything that its fit needs: prior, batches in order with their context, seed.

    Parameters
    ----------
    origin
        The link that the fit starts from, and the links whose batches it contains.
    head
        The belief of the chain's head; None before the first link.
    place
        Where among these batches the plan's own one belongs; at their end by default.

    Raises
    ------
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    chain, declaration, own = plan.chain, plan.declaration, plan.batch
    batches = list(read_batches(ledger, declaration, origin.links))
    if own is not None:
        place = len(batches) if place is None else place
        batches.insert(place, own)
    fitted = in_context(ledger, declaration, chain.counted(origin.prior), batches)
    # A pooled refit contains everything: nothing came before its prior.
    behind = segments_behind(ledger, declaration, chain, origin.prior) if plan.kind != Kind.REBASE else ()
    start = head.matched.digest if head else digest(plan.genesis)
    return replace(
        plan,
        origin=origin,
        behind=tuple(made for made, _ in behind),
        start=Start(
            prior=head if origin.prior is chain.head else belief_of(ledger, origin.prior),
            behind=tuple(segment for _, segment in behind),
            head=head if plan.kind == Kind.UPDATE else None,
            near=head,
        ),
        batches=fitted,
        batch=None if own is None else fitted[place or 0],
        seed=derive_seed(start, own.digest if own else plan.kind, declaration.model_digest),
    )


def tried_before(ledger: Ledger, plan: Plan, what: str) -> Plan | None:
    """Return a plan with nothing to do where the same was tried on this very head and failed the gate.

    A model that was mended since is another one: its fit may pass.

    Parameters
    ----------
    what
        What was tried, as the subject and verb of a sentence.

    Raises
    ------
    LedgerCorrupt
        If a version's record is not the one that was registered.
    """
    gone = {link.version.record for link in plan.retracted}
    wanted = (plan.kind, plan.previous, plan.batch.digest if plan.batch else "", gone)
    for version in plan.chain.quarantined:
        if (version.kind, version.previous, version.batch, set(version.retracted)) != wanted:
            continue
        record = record_of(ledger, version.run_id, version.record, f"version {version.number}")
        if record["model"]["digest"] != plan.declaration.model_digest:
            continue
        reasons = "; ".join(version.reasons) or "its fit failed the gate"
        noop = (
            f"{what} on this head before and is quarantined as version {version.number}: "
            f"{reasons.rstrip('.')}. To do: mend the model and pass --accept-model-change, or try again when "
            "another batch has moved the head"
        )
        return replace(plan, noop=noop, quarantined=True)
    return None


# -- carrying it out ----------------------------------------------------------------------------------


def fit_plan(plan: Plan, *, progress: Progress | None = None) -> Outcome | None:
    """Fit a plan; None where an earlier belief is taken. Touches no ledger.

    A pooled refit is compared with the head on the way.
    """
    if plan.target is not None:
        return None
    options = Options(seed=plan.seed, settings=plan.settings, thresholds=plan.thresholds, progress=progress)
    if plan.adopted is not None:
        return Outcome(*adopt(plan.adopted.trace, plan.adopted.graph, plan.adopted.source, options))
    data = Data(
        declaration=plan.declaration,
        batches=plan.batches,
        carried=plan.carried,
        constants=plan.constants,
    )
    belief, info = step(plan.start, data, options)
    return compared(plan, belief, info)


def compared(plan: Plan, belief: Belief, info: Info) -> Outcome:
    """Return the outcome of a fit, beside the head where the plan is to compare them."""
    if plan.compared is None:
        return Outcome(belief, info)
    table = audit_table(plan.compared, info.summary)
    return Outcome(belief, info.with_metrics(audit_metrics(table)), table)


def log_plan(
    ledger: Ledger, plan: Plan, outcome: Outcome | None, *, context: RunContext | None = None
) -> LoggedLink:
    """Write a link's artifacts, read them back and verify their digests; starts the chain if it is new.

    Parameters
    ----------
    outcome
        What `fit_plan` returned.
    context
        The flow run, when there is one.

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
    _claim(ledger, plan)
    origin = Origin(plan.target, ()) if outcome is None else plan.settled(outcome.info.fit.undone)
    noted = NotedLink(
        chain=plan.declaration.name,
        kind=plan.kind,
        number=plan.link,
        prior=origin.prior.number if origin.prior else None,
        batch=plan.batch,
        taken_out=[shown(gone) for gone in plan.retracted],
    )
    context = context or RunContext()
    if plan.target is not None or outcome is None:
        return log_copy(
            ledger,
            plan.target or plan.chain.links[-1],
            noted,
            previous=plan.previous,
            retracted=[gone.version.record for gone in plan.retracted],
            phases=plan.phases,
            context=context,
        )
    plan.phases.add(outcome.info.seconds)
    content = _content(plan, outcome, origin)
    return log_content(ledger, content, noted, phases=plan.phases, context=context)


def _claim(ledger: Ledger, plan: Plan) -> None:
    """Start the chain of a plan if it does not exist yet."""
    name = plan.declaration.name
    if plan.fresh and ledger.claim(name, plan.genesis, plan.declaration.description) != plan.genesis:
        raise LostRace(
            f"Another writer started the chain {name} first",
            expected="this link to be the first",
            found="a genesis record with other carried variables or code, or another origin",
            todo="run it again: it continues the chain that exists, or states why it cannot",
        )


def _content(plan: Plan, outcome: Outcome, origin: Origin) -> Content:
    """Collect what the record of a fit is made from, whatever its kind."""
    return Content(
        declaration=plan.declaration,
        kind=plan.kind,
        previous=plan.previous,
        prior=origin.prior.version.record if origin.prior else digest(plan.genesis),
        carried=plan.carried,
        constants=plan.constants,
        info=outcome.info,
        replayed=tuple(link.version.record for link in origin.links),
        retracted=tuple(link.version.record for link in plan.retracted),
        batch=plan.batch,
        newest=plan.batches[-1] if plan.batches else None,
        audit=outcome.audit,
    )
