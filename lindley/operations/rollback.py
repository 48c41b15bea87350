"""Plan to go back to the belief of an earlier link."""

from __future__ import annotations

from dataclasses import replace

from lindley.ledger.lineage import maker_of
from lindley.ledger.protocol import Ledger
from lindley.ledger.record import Kind
from lindley.ledger.references import choose_link
from lindley.model.declaration import Declaration
from lindley.operations.plan import Plan
from lindley.operations.planner import on_begun


def plan_rollback(ledger: Ledger, declaration: Declaration, link: str) -> Plan:
    """Plan to go back to the belief of an earlier link; what came after it does not count any more.

    Parameters
    ----------
    link
        Which one; see `lindley.ledger.references.choose_link`.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain or link.
    """
    plan = on_begun(ledger, declaration, Kind.ROLLBACK)
    target, head = choose_link(plan.chain, link), plan.chain.links[-1]
    if maker_of(plan.chain, target) is maker_of(plan.chain, head):
        same = "is the head" if target is head else f"has the belief of the head, link {head.number}"
        return replace(plan, noop=f"Link {target.number} {same}; nothing was done")
    return replace(plan, target=target)
