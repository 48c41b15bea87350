"""Planning an update: what the head is, whether the batch is new to it, what prior it meets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lindley.batch.batch import Batch
from lindley.errors import ModelRefused
from lindley.inference.diagnostics import Thresholds
from lindley.inference.inputs import Segment
from lindley.inference.sampling import FitSettings
from lindley.ledger.chain import Chain, ChainLink, Version
from lindley.ledger.lineage import (
    Origin,
    batches_of,
    belief_of,
    in_context,
    segments_behind,
    settled,
    starting_point,
)
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_belief, read_chain, record_of
from lindley.ledger.record import canonical, digest, genesis_record, parse
from lindley.ledger.writing import complete
from lindley.model import graph
from lindley.model.declaration import Declaration
from lindley.operations.overlap import DROP, REFUSE, refuse_overlap, without_overlap
from lindley.prior.belief import Belief
from lindley.seeds import derive_seed
from lindley.timing import BUILD, FETCH, Phases


@dataclass(frozen=True)
class Plan:
    """What will be fitted on which head.

    Parameters
    ----------
    genesis
        Bytes of the chain's genesis record; proposed ones when the chain is `fresh`.
    chain
        The chain as it was read; None when it is `fresh`.
    origin
        What the fit starts from, and the links whose batches are fitted again with the new one.
    prior
        The belief that the fit starts from; None at genesis.
    before
        The belief of the head; None before the first link.
    replayed
        The batches of the links that are fitted again, oldest first.
    behind
        How the prior came about, newest first, and the same as something that can be fitted.
    constants
        Frozen constants of preprocessing.
    carried
        Names of the carried variables.
    seed
        Derived from the prior's, the batch's and the model's digests.
    noop
        Why nothing needs to be done; None when there is something to do.
    quarantined
        Whether the batch was fitted on this very head, with this code, before and failed the gate.
    phases
        Seconds by phase since the batch was read.
    """

    declaration: Declaration
    batch: Batch
    genesis: bytes
    fresh: bool
    carried: tuple[str, ...]
    seed: int
    settings: FitSettings
    thresholds: Thresholds
    chain: Chain | None = None
    origin: Origin = field(default_factory=lambda: Origin(None, ()))
    prior: Belief | None = None
    before: Belief | None = None
    replayed: tuple[Batch, ...] = ()
    behind: tuple[tuple[Origin, Segment], ...] = ()
    constants: dict[str, float] = field(default_factory=dict)
    noop: str | None = None
    quarantined: bool = False
    phases: Phases = field(default_factory=Phases, compare=False)

    @property
    def head(self) -> ChainLink | None:
        """The head it succeeds; None before the first link."""
        return self.chain.head if self.chain else None

    def settled(self, undone: int) -> Origin:
        """Return what the fit started from in the end, after so many of `behind` were fitted again."""
        return settled(self.origin, (made for made, _ in self.behind[:undone]))

    @property
    def previous(self) -> str:
        """Record digest of the head, or of the genesis record."""
        return self.head.version.record if self.head else digest(self.genesis)

    @property
    def link(self) -> int:
        """Number that the new link will have if it wins."""
        return self.head.number + 1 if self.head else 1


def plan_update(
    ledger: Ledger,
    declaration: Declaration,
    batch: Batch,
    *,
    settings: FitSettings | None = None,
    thresholds: Thresholds | None = None,
    accept_model_change: bool = False,
    on_overlap: str = REFUSE,
) -> Plan:
    """Read the head and decide what a batch does to it. Completes what a killed writer left open.

    Parameters
    ----------
    on_overlap
        What becomes of a batch with rows whose key is counted already: ``refuse``, or ``drop`` these rows.

    Raises
    ------
    OverlapRefused
        If rows of the batch are in the chain already, in another batch, and are not to be dropped.
    ModelRefused
        If the model's code is not the head's and `accept_model_change` is False, or it cannot be handled.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    phases = Phases(batch.seconds)
    with phases(FETCH):
        genesis = ledger.genesis(declaration.name)
    if genesis is None:
        with phases(BUILD):
            return replace(_first_plan(declaration, batch, settings, thresholds), phases=phases)
    with phases(FETCH):
        chain = read_chain(ledger, declaration.name, genesis)
        complete(ledger, declaration.name, chain)
        root = parse(genesis)
        plan = Plan(
            declaration=declaration,
            batch=batch,
            genesis=genesis,
            fresh=False,
            carried=tuple(root["model"]["carried"]),
            seed=0,
            settings=settings or FitSettings.of(declaration.policy),
            thresholds=thresholds or Thresholds(),
            chain=chain,
            constants=dict(root["model"]["constants"]),
        )
        done = _already(ledger, plan, chain)
        if done is not None:
            return done
        if on_overlap == DROP:
            left = without_overlap(ledger, chain.at_head, batch)
            if left is None:
                return replace(plan, noop=_nothing_left(batch))
            plan = replace(plan, batch=left)
            # What is left may have come before, with other rows beside it.
            done = _already(ledger, plan, chain)
            if done is not None:
                return done
        else:
            refuse_overlap(ledger, chain.at_head, batch)
        _refuse_other_preparation(declaration, root)
        if chain.head is None:
            _refuse_other_carried(plan, root)
        model_of_head, start = root, digest(genesis)
        if chain.head is not None:
            model_of_head, before = read_belief(ledger, chain.head)
            start = before.matched.digest
            plan = replace(plan, before=before)
        if not accept_model_change:
            refuse_model_change(declaration, model_of_head, chain)
        plan = _with_origin(ledger, plan, chain)
    seed = derive_seed(start, plan.batch.digest, declaration.model_digest)
    return replace(plan, seed=seed, phases=phases)


def _with_origin(ledger: Ledger, plan: Plan, chain: Chain) -> Plan:
    """Decide what the fit starts from, and read it."""
    declaration = plan.declaration
    origin = starting_point(chain, declaration.policy.window)
    prior = plan.before if origin.prior == chain.head else belief_of(ledger, origin.prior)
    return replace(
        plan,
        batch=in_context(ledger, declaration, chain.at_head, [plan.batch])[0],
        origin=origin,
        prior=prior,
        replayed=batches_of(ledger, declaration, chain, origin),
        behind=segments_behind(ledger, declaration, chain, origin.prior),
    )


def _nothing_left(batch: Batch) -> str:
    return f"All {batch.rows} row keys of {batch.origin} are counted already; nothing was done"


def _first_plan(
    declaration: Declaration, batch: Batch, settings: FitSettings | None, thresholds: Thresholds | None
) -> Plan:
    """Plan the first link of a chain that does not exist yet."""
    frame = batch.frame()
    constants = declaration.frozen_constants(frame)
    carried = graph.carried_variables(declaration, frame, constants)
    genesis = canonical(genesis_record(declaration.name, genesis_model(declaration, carried, constants)))
    if declaration.context:
        batch = replace(batch, context=batch.table.slice(0, 0))
    return Plan(
        declaration=declaration,
        batch=batch,
        genesis=genesis,
        fresh=True,
        carried=carried,
        constants=constants,
        seed=derive_seed(digest(genesis), batch.digest, declaration.model_digest),
        settings=settings or FitSettings.of(declaration.policy),
        thresholds=thresholds or Thresholds(),
    )


def genesis_model(
    declaration: Declaration, carried: tuple[str, ...], constants: dict[str, float]
) -> dict[str, Any]:
    """Return what the genesis record says of the model."""
    return {
        "digest": declaration.model_digest,
        "carried": list(carried),
        "carry": dict(declaration.carry),
        "observed": list(declaration.observed),
        "row_key": list(declaration.row_key),
        "constants": constants,
        "context": declaration.context,
    }


def _already(ledger: Ledger, plan: Plan, chain: Chain) -> Plan | None:
    """Return a plan with nothing to do when the batch was seen before; None when it is new."""
    counted = chain.with_batch(plan.batch.digest)
    if counted is not None:
        return replace(
            plan,
            noop=f"{plan.batch.origin} is already in {plan.declaration.name} as link {counted.number} "
            f"(batch {plan.batch.digest[:12]}); nothing was done",
        )
    here = [
        version
        for version in chain.quarantined
        if version.batch == plan.batch.digest and version.previous == plan.previous
    ]
    tried = quarantined_with(ledger, plan.declaration, here)
    if tried is None:
        return None
    said = f"{plan.batch.origin} was fitted on this head before and {quarantined_as(tried)}"
    return replace(plan, noop=said, quarantined=True)


def quarantined_with(ledger: Ledger, declaration: Declaration, versions: Sequence[Version]) -> Version | None:
    """Return the first of some quarantined versions that was fitted with the code of a declaration.

    A model that was mended since is another one: its fit may pass.

    Raises
    ------
    LedgerCorrupt
        If a version's record is not the one that was registered.
    """
    for version in versions:
        record = record_of(ledger, version.run_id, version.record, f"version {version.number}")
        if record["model"]["digest"] == declaration.model_digest:
            return version
    return None


def quarantined_as(version: Version) -> str:
    """Say where a fit is that failed the gate, why it failed, and what can be done."""
    reasons = "; ".join(version.reasons) or "its fit failed the gate"
    return (
        f"is quarantined as version {version.number}: {reasons.rstrip('.')}. To do: mend the model and pass "
        "--accept-model-change, or try again when another batch has moved the head"
    )


def _refuse_other_preparation(declaration: Declaration, root: dict[str, Any]) -> None:
    """Refuse constants or context that came after genesis: coefficients would change their meaning."""
    frozen, context = bool(root["model"]["constants"]), root["model"]["context"]
    if frozen == (declaration.constants is not None) and context == declaration.context:
        return
    raise ModelRefused(
        f"The preparation of {declaration.name} is not that of its genesis",
        expected=f"{'frozen constants' if frozen else 'no constants'}, {context} context rows",
        found=f"{'constants' if declaration.constants is not None else 'no constants'}, "
        f"{declaration.context} context rows",
        todo="undo the change in the declaration, or start a new chain",
    )


def _refuse_other_carried(plan: Plan, root: dict[str, Any]) -> None:
    """Refuse a model that carries other variables than the genesis of a chain without links.

    The claim of a chain is atomic and final, so that genesis cannot follow the model.
    """
    declaration = plan.declaration
    if root["model"]["digest"] == declaration.model_digest:
        return
    found = graph.carried_variables(declaration, plan.batch.frame(), plan.constants)
    if set(found) == set(plan.carried):
        return
    name = declaration.name
    raise ModelRefused(
        f"The model {name} carries other variables than when the chain was started",
        expected=f"carried {', '.join(plan.carried)}: fixed at genesis, although no link was accepted yet",
        found=f"carried {', '.join(found)}",
        todo="save the model file under another name, give its declaration that name, and update that chain "
        "with the same file (it is in the store); or keep the variables of genesis",
    )


def refuse_model_change(declaration: Declaration, record: dict[str, Any], chain: Chain) -> None:
    """Refuse a model whose code is not the head's, unless someone said that it is meant."""
    if record["model"]["digest"] == declaration.model_digest:
        return
    where = f"link {chain.head.number}" if chain.head else "the chain's genesis"
    raise ModelRefused(
        f"The code of the model {declaration.name} changed since {where}",
        expected=f"model digest {record['model']['digest'][:12]}",
        found=declaration.model_digest[:12],
        todo="undo the change, or pass --accept-model-change: the new code is then recorded with the link",
    )
