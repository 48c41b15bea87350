"""Acts on a chain. The core is imported on first use, as in `tasks.update`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.options import artifact_key, flow_run_url, step
from tasks.progress import ArtifactProgress

if TYPE_CHECKING:
    from lindley.batch.batch import Batch
    from lindley.ledger.protocol import Ledger
    from lindley.model.declaration import Declaration
    from lindley.operations.amendment import ActPlan
    from lindley.operations.branch import Branched
    from lindley.operations.plan import LoggedLink, Outcome


@step("plan retract")
def plan_retract(
    ledger: Ledger, declaration: Declaration, batches: list[str], accept_model_change: bool
) -> ActPlan:
    """Plan a chain without some batches; see `lindley.operations.retract.plan_retract`."""
    from lindley.operations.retract import plan_retract as plan_in_core

    return plan_in_core(ledger, declaration, batches, accept_model_change=accept_model_change)


@step("plan correct")
def plan_correct(
    ledger: Ledger, declaration: Declaration, old: str, batch: Batch, accept_model_change: bool
) -> ActPlan:
    """Plan a chain with another batch in the place of one; see `lindley.operations.retract.plan_correct`."""
    from lindley.operations.retract import plan_correct as plan_in_core

    return plan_in_core(ledger, declaration, old, batch, accept_model_change=accept_model_change)


@step("plan rollback")
def plan_rollback(ledger: Ledger, declaration: Declaration, link: str) -> ActPlan:
    """Plan to go back to an earlier link; see `lindley.operations.rollback.plan_rollback`."""
    from lindley.operations.rollback import plan_rollback as plan_in_core

    return plan_in_core(ledger, declaration, link)


@step("fit act")
def fit_act(plan: ActPlan) -> Outcome | None:
    """Fit what is left and show the sampler's progress; see `lindley.operations.amendment.fit_act`."""
    from lindley.operations.amendment import fit_act as fit_in_core

    if plan.target is not None:
        return None
    chain = plan.declaration.name
    progress = ArtifactProgress(artifact_key(chain, "sampler"), f"Sampler of {chain}, {plan.kind}")
    outcome = fit_in_core(plan, progress=progress)
    progress.finish()
    return outcome


@step("log act")
def log_act(ledger: Ledger, plan: ActPlan, outcome: Outcome | None) -> LoggedLink:
    """Write the act's artifacts, read them back and verify; see `lindley.operations.amendment.log_act`."""
    from lindley.operations.amendment import log_act as log_in_core
    from lindley.operations.plan import RunContext

    context = RunContext(flow_run_id=flow_run.id, flow_run_url=flow_run_url())
    logged = log_in_core(ledger, plan, outcome, context=context)
    get_run_logger().info("Run %s, record %s", logged.run_id, logged.record_digest[:12])
    return logged


@step("make branch")
def make_branch(ledger: Ledger, declaration: Declaration, source: str, link: str) -> Branched:
    """Start a branch from a link; see `lindley.operations.branch.make_branch`."""
    from lindley.operations.branch import make_branch as make_in_core
    from lindley.operations.plan import RunContext

    context = RunContext(flow_run_id=flow_run.id, flow_run_url=flow_run_url())
    return make_in_core(ledger, declaration, source, link, context=context)
