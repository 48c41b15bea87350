"""Plan a pooled refit: all batches of a chain fitted together.

Sequential updating is an approximation; the pooled refit is the answer that it approximates. `lindley rebase`
registers it as the new head, `lindley audit` only compares.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lindley.errors import ModelRefused, UnknownLink
from lindley.ledger.chain import Chain, ChainLink
from lindley.ledger.lineage import Origin, rows_of
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import read_summary
from lindley.ledger.record import Kind
from lindley.model.declaration import Declaration
from lindley.model.policy import Policy
from lindley.operations.panel.amend import amended
from lindley.operations.plan import Plan
from lindley.operations.planner import as_known, on_begun, read_head, tried_before, with_fit, with_structure
from lindley.panel.key import MemberKey
from lindley.prior.belief import Audited
from lindley.report.text import counted as count_of
from lindley.timing import FETCH


def plan_rebase(
    ledger: Ledger,
    declaration: Declaration,
    *,
    accept_model_change: bool = False,
    whole: bool = False,
    member: MemberKey | None = None,
) -> Plan:
    """Read all batches of a chain, and its head.

    Parameters
    ----------
    member
        Of a panel, the only member that is fitted, for an audit; all by default.
    whole
        Fit all rows as one model where that can be, whether or not they add up: for an audit, which
        registers nothing.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain, or it has no batch.
    ModelRefused
        If the chain forgets (a pooled refit remembers everything), or its code changed.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    plan = on_begun(ledger, declaration, Kind.REBASE)
    chain = plan.chain
    if not chain.at_head:
        raise UnknownLink(
            f"{declaration.name} has no batch that could be fitted again",
            expected="a chain with at least one batch",
            found=f"{len(chain.links)} links without one",
            todo="update the chain with its first batch",
        )
    if declaration.policy.forget:
        raise ModelRefused(
            f"{declaration.name} forgets old data on purpose",
            expected="a chain whose belief is that of all its batches",
            found="a policy with `forget`",
            todo="compare chains with and without forgetting by their log scores instead",
        )
    if not whole and any(v.kind == Kind.REBASE for v in chain.candidates):
        tried = tried_before(ledger, plan, "The same was fitted")
        if tried is not None:
            return tried
    if declaration.by:
        return amended(ledger, plan, chain.at_head, member=member, accept_model_change=accept_model_change)
    with plan.phases(FETCH):
        record, head = read_head(ledger, plan, accept_model_change=accept_model_change)
        plan = replace(as_known(plan, record), whole=whole)
        plan = with_fit(ledger, plan, Origin(imported_link(chain), chain.at_head), head)
        plan = replace(plan, compared=read_summary(ledger, chain.links[-1], record))
    return with_structure(ledger, plan, None if accept_model_change else record)


def imported_link(chain: Chain) -> ChainLink | None:
    """Return the link that a chain was imported as; None for a chain that starts from genesis."""
    first = chain.links[0] if chain.links else None
    return first if first is not None and first.version.kind == Kind.IMPORT else None


def rebase_due(chain: Chain, declaration: Declaration) -> str | None:
    """Return why the policy asks for a pooled refit now, and what it fits; None where it does not.

    It does not where the head is the pooled fit already, nor for more rows than `Policy.rebase_rows`.
    """
    policy, head = declaration.policy, chain.head
    if head is None or not head.version.batch or not policy.refits:
        return None
    counted = chain.at_head
    rows = rows_of(counted)
    why = None if _pooled(chain, head) else _reason(chain, head, policy)
    if why is None or rows > policy.rebase_rows or _failed_lately(chain):
        return None
    return f"{why}; it fits {len(counted)} batches, {rows} rows"


def _failed_lately(chain: Chain) -> bool:
    """Whether a pooled refit is no link, and not enough updates came since to try it again.

    It failed the gate, was rejected, or waits for a decision.

    The first one is tried again with the next update, further ones once twice as many versions were made
    since the first: a refit that never passes costs less and less.
    """
    last = max((link.version.number for link in chain.own if link.version.kind == Kind.REBASE), default=0)
    apart = (*chain.quarantined, *chain.candidates)
    failed = sorted(v.number for v in apart if v.kind == Kind.REBASE and v.number > last)
    if not failed or chain.head is None:
        return False
    return chain.head.version.number - failed[0] < 2 * (failed[-1] - failed[0])


def _reason(chain: Chain, head: ChainLink, policy: Policy) -> str | None:
    since = 0
    for link in reversed(chain.links):
        if link.version.kind == Kind.REBASE:
            break
        since += 1
    if policy.rebase_every is not None and since >= policy.rebase_every:
        return f"{since} links since the last pooled refit, the policy allows {policy.rebase_every}"
    budget = head.version.metrics.get("budget", 0.0)
    if policy.rebase_at_budget is not None and budget >= policy.rebase_at_budget:
        return f"budget {budget:.2f}, the policy allows {policy.rebase_at_budget}"
    return None if policy.rebase_at_drift is None else _error(head.version.metrics, policy.rebase_at_drift)


def _error(metrics: Mapping[str, float], limit: float) -> str | None:
    """Return which error of matches calls for a pooled refit, measured or not."""
    drift, unmeasured = metrics.get("drift", 0.0), int(metrics.get("unmeasured", 0))
    audited = Audited.of(metrics)
    if drift >= limit:
        return f"drift {drift:.2f}, the policy allows {limit}"
    harm = audited.harm(unmeasured) if audited is not None else 0.0
    if harm >= limit:
        return f"an expected error of {harm:.2f} sds by matches that cannot be measured"
    if unmeasured >= (2 * audited.matches if audited is not None else 1):
        return f"{count_of(unmeasured, 'match', 'matches')} whose error only a pooled refit can measure"
    return None


def _pooled(chain: Chain, head: ChainLink) -> bool:
    """Whether a link was fitted on all its batches together already."""
    start = chain.prior(head)
    return start is imported_link(chain) or start is None
