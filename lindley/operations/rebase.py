"""Pooled refits: all batches of a chain fitted together, and what the chain has lost against them.

Sequential updating is an approximation; the pooled refit is the answer that it approximates. `rebase`
registers it as the new head, `audit` only compares.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from lindley.batch.batch import Batch
from lindley.errors import ModelRefused, UnknownLink
from lindley.inference.diagnostics import Thresholds
from lindley.inference.inputs import Data, Options, Start
from lindley.inference.sampling import FitSettings, Progress
from lindley.inference.step import step
from lindley.ledger.chain import Chain, ChainLink
from lindley.ledger.lineage import Origin, batches_of, belief_of
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain, read_belief, read_summary
from lindley.ledger.record import Kind, parse
from lindley.ledger.writing import LoggedLink, RunContext, complete, log_content
from lindley.model.declaration import Declaration
from lindley.operations.plan import Outcome, content_of
from lindley.operations.update import refuse_model_change
from lindley.prior.belief import Belief
from lindley.seeds import derive_seed
from lindley.timing import FETCH, Phases


@dataclass(frozen=True)
class RebasePlan:
    """What will be fitted together.

    Parameters
    ----------
    chain
        The chain as it was read; its head is what the refit is compared with and succeeds.
    origin
        Where the fit starts (genesis, or an imported link), and the links whose batches are fitted.
    prior, head
        The belief that it starts from (None at genesis), and that of the head.
    batches
        Their batches, oldest first.
    summary
        The head's parameters.
    seed
        Derived from the head's, the batches' and the model's digests.
    """

    declaration: Declaration
    genesis: bytes
    chain: Chain
    origin: Origin
    prior: Belief | None
    head: Belief
    batches: tuple[Batch, ...]
    summary: pd.DataFrame
    carried: tuple[str, ...]
    constants: dict[str, float]
    seed: int
    settings: FitSettings = field(default_factory=FitSettings)
    thresholds: Thresholds = field(default_factory=Thresholds)
    phases: Phases = field(default_factory=Phases, compare=False)

    @property
    def head_link(self) -> ChainLink:
        """The head that it succeeds."""
        return self.chain.links[-1]


def plan_rebase(
    ledger: Ledger,
    declaration: Declaration,
    *,
    settings: FitSettings | None = None,
    thresholds: Thresholds | None = None,
    accept_model_change: bool = False,
) -> RebasePlan:
    """Read all batches of a chain, and its head.

    Raises
    ------
    UnknownChain, UnknownLink
        If there is no such chain, or it has no batch.
    ModelRefused
        If the chain forgets (a pooled refit remembers everything), or its code changed.
    LedgerCorrupt
        If what the ledger holds does not have the digests it states.
    """
    phases = Phases()
    with phases(FETCH):
        plan = _read(ledger, declaration, accept_model_change)
    return replace(
        plan, settings=settings or plan.settings, thresholds=thresholds or plan.thresholds, phases=phases
    )


def _read(ledger: Ledger, declaration: Declaration, accept_model_change: bool) -> RebasePlan:
    """Read what is fitted together."""
    chain = find_chain(ledger, declaration.name)
    complete(ledger, declaration.name, chain)
    genesis = ledger.genesis(declaration.name)
    if chain.head is None or genesis is None or not chain.at_head:
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
    root = parse(genesis)
    record, head = read_belief(ledger, chain.head)
    if not accept_model_change:
        refuse_model_change(declaration, record, chain)
    origin = Origin(imported_link(chain), chain.at_head)
    return RebasePlan(
        declaration=declaration,
        genesis=genesis,
        chain=chain,
        origin=origin,
        prior=belief_of(ledger, origin.prior),
        head=head,
        batches=batches_of(ledger, declaration, chain, origin),
        summary=read_summary(ledger, chain.head, record),
        carried=tuple(root["model"]["carried"]),
        constants=dict(root["model"]["constants"]),
        seed=derive_seed(head.matched.digest, Kind.REBASE, declaration.model_digest),
        settings=FitSettings.of(declaration.policy),
    )


def imported_link(chain: Chain) -> ChainLink | None:
    """Return the link that a chain was imported as; None for a chain that starts from genesis."""
    first = chain.links[0] if chain.links else None
    return first if first is not None and first.version.kind == Kind.IMPORT else None


def fit_rebase(plan: RebasePlan, *, progress: Progress | None = None) -> Outcome:
    """Fit all batches together; see `lindley.inference.step.step`. Touches no ledger."""
    belief, info = step(
        Start(prior=plan.prior, near=plan.head),
        Data(
            declaration=plan.declaration,
            batches=plan.batches,
            carried=plan.carried,
            constants=plan.constants,
        ),
        Options(seed=plan.seed, settings=plan.settings, thresholds=plan.thresholds, progress=progress),
    )
    table = audit_table(plan.summary, info.summary)
    return Outcome(belief=belief, info=info.with_metrics(audit_metrics(table)), audit=table)


def audit_table(sequential: pd.DataFrame, pooled: pd.DataFrame) -> pd.DataFrame:
    """Compare a chain's head with the pooled refit.

    Parameters
    ----------
    sequential, pooled
        Summaries (see `lindley.inference.trace.summary`).

    Returns
    -------
    pandas.DataFrame
        Index ``parameter``, those of both; columns sequential_mean, sequential_sd, pooled_mean,
        pooled_sd, error (difference of the means in pooled sds), sd_ratio (sequential over pooled), and
        error_q05, error_q95 (differences of the ends of the 90% interval in pooled sds).
    """
    sequential = sequential[~sequential.index.duplicated()]
    pooled = pooled[~pooled.index.duplicated()]
    shared = [name for name in pooled.index if name in sequential.index]
    one, two = sequential.loc[shared], pooled.loc[shared]
    sd = two["sd"].where(two["sd"] > 0)
    return pd.DataFrame(
        {
            "sequential_mean": one["mean"],
            "sequential_sd": one["sd"],
            "pooled_mean": two["mean"],
            "pooled_sd": two["sd"],
            "error": (one["mean"] - two["mean"]) / sd,
            "sd_ratio": one["sd"] / sd,
            "error_q05": (one["q05"] - two["q05"]) / sd,
            "error_q95": (one["q95"] - two["q95"]) / sd,
        }
    ).rename_axis("parameter")


def audit_metrics(table: pd.DataFrame) -> dict[str, float]:
    """Return the worst of an audit as scalar results."""
    metrics = {
        "audit_error": table["error"].abs().max(),
        "audit_sd_ratio_min": table["sd_ratio"].min(),
        "audit_sd_ratio_max": table["sd_ratio"].max(),
    }
    return {name: float(value) for name, value in metrics.items() if np.isfinite(value)}


def log_rebase(ledger: Ledger, plan: RebasePlan, outcome: Outcome, *, context: RunContext) -> LoggedLink:
    """Write a pooled refit's artifacts, read them back and verify their digests.

    Raises
    ------
    LedgerCorrupt
        If what was read back is not what was written; the run is kept and marked.
    """
    origin = plan.origin
    plan.phases.add(outcome.seconds)
    content = content_of(
        plan,
        outcome,
        origin=origin,
        kind=Kind.REBASE,
        previous=plan.head_link.version.record,
        batch=None,
        newest=plan.batches[-1],
    )
    return log_content(
        ledger,
        content,
        link=plan.head_link.number + 1,
        prior_link=origin.prior.number if origin.prior else None,
        phases=plan.phases,
        context=context,
    )


def rebase_due(chain: Chain, declaration: Declaration) -> str | None:
    """Return why the policy asks for a pooled refit now; None where it does not."""
    policy, head = declaration.policy, chain.head
    if head is None or not head.version.batch:
        return None
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
    drift = head.version.metrics.get("drift", 0.0)
    if policy.rebase_at_drift is not None and drift >= policy.rebase_at_drift:
        return f"drift {drift:.2f}, the policy allows {policy.rebase_at_drift}"
    return None
