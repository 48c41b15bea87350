"""What the planners of every kind share: the chain as it is, its head, and what a fit starts from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd

from lindley.batch.batch import Batch
from lindley.inference.inputs import Start
from lindley.ledger.chain import Chain, Version, records_of, walk
from lindley.ledger.lineage import Origin, belief_of, in_context, read_batches, segments_behind
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_begun, read_belief, record_of
from lindley.ledger.record import Kind, Status, canonical, digest, genesis_record, parse
from lindley.ledger.registration import complete
from lindley.model import graph
from lindley.model.declaration import Declaration
from lindley.model.meaning.adding_up import Meaning
from lindley.operations.checking.changes import compared_structure, refuse_model_change
from lindley.operations.plan import Plan
from lindley.panel.members import first_member
from lindley.prior.belief import Belief
from lindley.seeds import derive_seed
from lindley.timing import BUILD, FETCH, Phases


def fresh_chain(
    ledger: Ledger,
    declaration: Declaration,
    kind: Kind,
    frame: pd.DataFrame,
    phases: Phases,
    batch: Batch | None = None,
) -> Plan:
    """Return the beginning of a plan for a chain that does not exist yet.

    Parameters
    ----------
    frame
        Rows from which the model is built and its constants are computed.

    Raises
    ------
    HomeRefused
        If no run can be added to the chain.
    """
    _require_home(ledger, declaration.name)
    constants = declaration.frozen_constants(frame)
    # The model of a panel is that of the rows of one member.
    member = first_member(batch, declaration).frame() if declaration.by and batch else frame
    carried = graph.carried_variables(declaration, member, constants)
    model = {
        "digest": declaration.model_digest,
        "carried": list(carried),
        "carry": dict(declaration.carry),
        "observed": list(declaration.observed),
        "row_key": list(declaration.row_key),
        "constants": constants,
        "context": declaration.context,
        "by": list(declaration.by),
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

    Raises
    ------
    HomeRefused
        If no run can be added to the chain.
    """
    chain, genesis = found
    _require_home(ledger, declaration.name)
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


def as_known(plan: Plan, record: dict[str, Any]) -> Plan:
    """Return a plan with what the head's record states of its code, where the plan's code is the same.

    A trace that was imported has no rows whose log densities could have been added up.
    """
    same = record["model"]["digest"] == plan.declaration.model_digest
    if record["kind"] in (Kind.GENESIS, Kind.IMPORT) or not same:
        return plan
    return replace(plan, meaning=Meaning.from_dict(record["model"]["rows"]))


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
    # An update reads what the updates before it read: a process takes that as it is.
    held = plan.kind == Kind.UPDATE
    batches = list(read_batches(ledger, declaration, origin.links, held=held))
    if own is not None:
        place = len(batches) if place is None else place
        batches.insert(place, own)
    fitted = in_context(ledger, declaration, chain.counted(origin.prior), batches, held=held)
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


def with_structure(ledger: Ledger, plan: Plan, record: dict[str, Any] | None = None) -> Plan:
    """Return a plan with the structure of the model that it fits; see `compared_structure`."""
    with plan.phases(BUILD):
        structure, warnings = compared_structure(ledger, plan, record)
    return replace(plan, structure=structure, warnings=(*plan.warnings, *warnings))


def tried_before(ledger: Ledger, plan: Plan, what: str) -> Plan | None:
    """Return a plan with nothing to do where the same was tried on this very head and is no link.

    It failed the gate, or is a candidate that was rejected or not decided on. A model that was mended since
    is another one: its fit may pass.

    Parameters
    ----------
    what
        What was tried, as the subject and verb of a sentence.

    Raises
    ------
    LedgerCorrupt
        If a version's record is not the one that was registered.
    """
    # What an update takes out follows from its rows.
    gone = None if plan.kind == Kind.UPDATE else set(records_of(plan.retracted))
    wanted = (plan.kind, plan.previous, plan.batch.digest if plan.batch else "", gone)
    for version in (*plan.chain.quarantined, *plan.chain.candidates):
        taken = None if gone is None else set(version.retracted)
        if (version.kind, version.previous, version.batch, taken) != wanted:
            continue
        record = record_of(ledger, version.run_id, version.record, f"version {version.number}")
        if record["model"]["digest"] != plan.declaration.model_digest:
            continue
        became, status = _became(plan, version)
        return replace(plan, noop=f"{what} on this head before and {became}", tried=status)
    return None


def _became(plan: Plan, version: Version) -> tuple[str, Status]:
    """State what became of a fit on the present head that is no link, and what to do."""
    decision = plan.chain.decided.get(version.record)
    moved = "when another batch has moved the head"
    again = f"To do: mend the model and pass --accept-model-change, or try again {moved}"
    if decision is not None:
        words = f"was rejected as version {version.number} by {decision.who}: {decision.why}"
        return f"{words.rstrip('.')}. {again}", Status.REJECTED
    if version.status == Status.CANDIDATE:
        decide = f"{plan.declaration.name} {version.number} --why TEXT"
        words = f"is a candidate, version {version.number}"
        return f"{words}. To do: `lindley approve {decide}`, or reject", Status.CANDIDATE
    reasons = "; ".join(version.reasons) or "its fit failed the gate"
    words = f"is quarantined as version {version.number}: {reasons.rstrip('.')}"
    return f"{words}. {again}", Status.QUARANTINED


def _require_home(ledger: Ledger, chain: str) -> None:
    """Check, before a fit, that the place of a chain's runs takes another one. A chain may have none yet.

    Raises
    ------
    HomeRefused
        If it does not; see `Home.require`.
    """
    home = ledger.home(chain)
    if home is not None:
        home.require(chain)
