"""Plan an update: find the head, check that the batch is new to it, choose the prior that it meets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lindley.batch.batch import Batch
from lindley.errors import ModelRefused
from lindley.ledger.lineage import Origin, rows_of, starting_point
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_chain
from lindley.ledger.record import Kind, digest, parse
from lindley.model import graph
from lindley.model.declaration import Declaration
from lindley.operations.overlap import DROP, REFUSE, refuse_overlap, with_joined, without_overlap
from lindley.operations.plan import Plan
from lindley.operations.planner import (
    as_known,
    fresh_chain,
    on_chain,
    read_head,
    tried_before,
    with_fit,
    with_structure,
)
from lindley.panel.members import first_member
from lindley.timing import BUILD, FETCH, Phases

#: Every so many links a fit begins with the sampler settings of the policy.
_AFRESH = 8


def plan_update(
    ledger: Ledger,
    declaration: Declaration,
    batch: Batch,
    *,
    accept_model_change: bool = False,
    on_overlap: str = REFUSE,
    join: Sequence[str] | None = None,
) -> Plan:
    """Plan what a batch does to the head of its chain. Completes what a killed writer left open.

    Parameters
    ----------
    join
        Record digests of the quarantined versions whose batches are fitted and counted too; by default those
        that the policy lets join now (see `lindley.operations.overlap`).
    accept_model_change
        Go on although the model's code is not the head's.
    on_overlap
        What becomes of a batch with rows whose key is counted already: ``refuse``, or ``drop`` these rows.

    Raises
    ------
    OverlapRefused
        If rows of the batch are in the chain already, in another batch, and are not to be dropped; or if a
        quarantined batch that waits has some of them and others.
    BatchRefused, GapRefused
        In a chain with state or context: if the batch is older than what counts, or if one before it is
        quarantined and cannot join.
    ModelRefused
        If the model's code is not the head's and `accept_model_change` is False, or it cannot be handled.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    phases = Phases(batch.seconds)
    with phases(FETCH):
        genesis = ledger.genesis(declaration.name)
    if genesis is None:
        return _first(ledger, declaration, batch, phases)
    with phases(FETCH):
        found = read_chain(ledger, declaration.name, genesis), genesis
        plan = replace(on_chain(ledger, declaration, Kind.UPDATE, found), batch=batch, phases=phases)
        plan = _without_known(ledger, plan, batch, on_overlap)
        if plan.noop is not None:
            return plan
        held = _held(plan)
        if held is not None:
            return held
        root = parse(genesis)
        _refuse_other_preparation(declaration, root)
        if plan.chain.head is None:
            _refuse_other_carried(plan, root)
        if declaration.by:
            return _with_members(ledger, plan, accept_model_change)
        record, head = read_head(ledger, plan, accept_model_change=accept_model_change)
        plan = with_joined(ledger, as_known(plan, record), join)
        rows = (plan.batch or batch).rows + rows_of(plan.joined)
        made = starting_point(plan.chain, rows, declaration.policy.window)
        plan = with_fit(ledger, plan, Origin(made.prior, (*made.links, *plan.joined)), head)
        plan = replace(plan, needed=_needed(plan, record))
    return with_structure(ledger, plan, None if accept_model_change else record)


def _first(ledger: Ledger, declaration: Declaration, batch: Batch, phases: Phases) -> Plan:
    """Plan the first link of a chain that does not exist yet."""
    if declaration.context:
        batch = replace(batch, context=batch.table.slice(0, 0))
    with phases(BUILD):
        plan = fresh_chain(ledger, declaration, Kind.UPDATE, batch.frame(), phases, batch)
    if declaration.by:
        return _with_members(ledger, plan, accept_model_change=False)
    return with_structure(ledger, replace(plan, batches=(batch,)))


def _needed(plan: Plan, record: dict[str, Any]) -> dict[str, Any] | None:
    """Return what the head's fit needed of the sampler, where it began at the same place as the plan's.

    A fit of batches from genesis says little of one that begins at a belief. Now and then the policy's own
    settings are tried again: what one batch needed need not be needed for good.
    """
    genesis = digest(plan.genesis)
    if "sampler" not in record or not plan.link % _AFRESH:
        return None
    same = (record["prior"] == genesis) == (plan.origin.prior is None)
    return {name: record[name] for name in ("sampler", "attempts")} if same else None


def _with_members(ledger: Ledger, plan: Plan, accept_model_change: bool) -> Plan:
    """Plan the members of a panel's batch."""
    from lindley.operations.panel.plan import with_members  # saves start-up time of chains with one belief

    return with_members(ledger, plan, accept_model_change=accept_model_change)


def _without_known(ledger: Ledger, plan: Plan, batch: Batch, on_overlap: str) -> Plan:
    """Return a plan with the rows that are new to the chain; with nothing to do where there are none."""
    done = _already(ledger, plan, batch)
    if done is not None and not (on_overlap == DROP and _with_refused(plan, batch)):
        return done
    if on_overlap != DROP:
        refuse_overlap(ledger, plan.chain.at_head, batch)
        return plan
    left = without_overlap(ledger, plan.chain.at_head, batch)
    if left is None:
        nothing = f"All {batch.rows} row keys of {batch.origin} are counted already; nothing was done"
        return replace(plan, noop=nothing)
    # What is left may have come before, with other rows beside it.
    return _already(ledger, plan, left) or replace(plan, batch=left)


def _with_refused(plan: Plan, batch: Batch) -> bool:
    """Whether a batch is counted without members that were quarantined: their rows may come again."""
    held = plan.chain.with_batch(batch.digest)
    return held is not None and held.version.metrics.get("members_quarantined", 0.0) > 0


def _held(plan: Plan) -> Plan | None:
    """Return a plan with nothing to do where a person has to decide on a candidate first; else None."""
    chain, name = plan.chain, plan.declaration.name
    if plan.in_order:
        held = [version for version in chain.undecided if version.batch]
    else:
        held = list(chain.pending) if plan.declaration.policy.approve_next == "wait" else []
    if not held:
        return None
    first = held[0]
    what = f"version {first.number} of {name} ({first.origin or first.kind}) is a candidate"
    noop = (
        f"{plan.batch.origin if plan.batch else 'It'} waits: {what}, on which a person has to decide first. "
        f"To do: `lindley approve {name} {first.number} --why TEXT`, or reject"
    )
    return replace(plan, noop=noop, held=first)


def _already(ledger: Ledger, plan: Plan, batch: Batch) -> Plan | None:
    """Return a plan with nothing to do when the batch was seen before; None when it is new."""
    counted = plan.chain.with_batch(batch.digest)
    if counted is not None:
        noop = (
            f"{batch.origin} is already in {plan.declaration.name} as link {counted.number} "
            f"(batch {batch.digest[:12]}); nothing was done"
        )
        return replace(plan, batch=batch, noop=noop)
    return tried_before(ledger, replace(plan, batch=batch), f"{batch.origin} was fitted")


def _refuse_other_preparation(declaration: Declaration, root: dict[str, Any]) -> None:
    """Refuse constants or context that came after genesis: coefficients would change their meaning."""
    frozen, context = bool(root["model"]["constants"]), root["model"]["context"]
    _refuse_other_members(declaration, root["model"]["by"])
    if frozen == (declaration.constants is not None) and context == declaration.context:
        return
    raise ModelRefused(
        f"The preparation of {declaration.name} is not that of its genesis",
        expected=f"{'frozen constants' if frozen else 'no constants'}, {context} context rows",
        found=f"{'constants' if declaration.constants is not None else 'no constants'}, "
        f"{declaration.context} context rows",
        todo="undo the change in the declaration, or start a new chain",
    )


def _refuse_other_members(declaration: Declaration, by: list[str]) -> None:
    """Refuse other key columns than those of genesis: members would be others."""
    if tuple(by) == declaration.by:
        return
    raise ModelRefused(
        f"The members of {declaration.name} are not those of its genesis",
        expected=f"by={tuple(by)!r}",
        found=f"by={declaration.by!r}",
        todo="undo the change in the declaration, or start a new chain",
    )


def _refuse_other_carried(plan: Plan, root: dict[str, Any]) -> None:
    """Refuse a model that carries other variables than the genesis of a chain without links.

    The claim of a chain is atomic and final, so that genesis cannot follow the model.
    """
    declaration = plan.declaration
    if root["model"]["digest"] == declaration.model_digest:
        return
    batch = first_member(plan.batch, declaration) if plan.batch and declaration.by else plan.batch
    found = graph.carried_variables(declaration, batch.frame() if batch else None, plan.constants)
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
