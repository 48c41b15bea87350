"""What Prefect is to know of a registered version: events for automations, and who has to decide.

docs/guides/events.md documents the payloads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid5

from prefect.client.orchestration import get_client
from prefect.events import emit_event
from prefect.logging import get_run_logger

from lindley.ledger.record import Status
from tasks.asking import ask, close, open_questions
from tasks.options import step

if TYPE_CHECKING:
    from lindley.ledger.registration import Registered
    from lindley.operations.plan import Outcome, Plan

#: Makes the ids of events from what they are about.
_NAMESPACE = UUID("5d0c4f1e-0a83-4b6e-9a58-6b1d35cf2d10")


def event_id(name: str, *about: str) -> UUID:
    """Return the id of an event: the same for the same thing. Prefect drops one that is sent again."""
    return uuid5(_NAMESPACE, "\n".join((name, *about)))


def emit(name: str, chain: str, about: str, payload: dict[str, Any]) -> None:
    """Emit an event of a chain; `about` identifies what happened."""
    resource = {"prefect.resource.id": f"lindley.chain.{chain}", "prefect.resource.name": chain}
    emit_event(name, resource, payload=payload, id=event_id(name, chain, about))


@step("announce")
def announce(plan: Plan, outcome: Outcome | None, registered: Registered) -> None:
    """Emit the events of a registered version, and let the pages ask a person who has to decide on it.

    A question that cannot be asked is only logged: decisions can be made by command.
    """
    try:
        with get_client(sync_client=True) as client:
            if registered.status == Status.CANDIDATE:
                ask(client, registered.chain, registered.version, registered.record_digest)
            if plan.decision is not None and registered.status != Status.SUPERSEDED:
                decided, how = plan.decision, f"{registered.status} by {plan.decision.who}"
                for run in open_questions(client, decided.version.record):
                    close(client, run, f"Version {decided.version.number} was {how}: {decided.why}")
    except Exception as error:  # whatever Prefect refuses
        get_run_logger().warning("The form for the decision was not updated: %s", error)
    for name, payload in events(plan, outcome, registered):
        emit(name, registered.chain, registered.record_digest, payload)


def events(
    plan: Plan, outcome: Outcome | None, registered: Registered
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and payload of each event of a registered version."""
    decision, batch = plan.decision, plan.batch
    gate = outcome.gate if outcome is not None else None
    about: dict[str, Any] = {
        "chain": registered.chain,
        "kind": str(plan.kind),
        "status": str(registered.status),
        "link": registered.link,
        "version": registered.version,
        "record": registered.record_digest,
        "previous": plan.previous,
        "batch": batch.digest if batch else None,
        "file": batch.origin if batch else None,
        "rows": batch.rows if batch else None,
        "reasons": list(gate.reasons) if gate else [],
        "warnings": list(gate.warnings) if gate else [],
        "who": decision.who if decision else None,
        "why": decision.why if decision else None,
        "run_url": registered.run_url,
        "version_url": registered.version_url,
    }
    yield f"lindley.link.{registered.status}", about
    if outcome is None:
        return
    for name, metric, limit, below in (
        ("drift", "drift", plan.thresholds.drift_warn, False),
        ("conflict", "conflict_p", plan.thresholds.conflict_warn, True),
    ):
        value = outcome.metrics.get(metric)
        if value is not None and (value < limit if below else value > limit):
            yield f"lindley.chain.{name}", about | {"metric": metric, "value": value, "limit": limit}
