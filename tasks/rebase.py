"""Pooled refits. The core is imported on first use, as in `tasks.update`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.options import artifact_key, flow_run_url, step
from tasks.progress import ArtifactProgress

if TYPE_CHECKING:
    from lindley.ledger.protocol import Ledger
    from lindley.model.declaration import Declaration
    from lindley.operations.plan import LoggedLink, Outcome
    from lindley.operations.rebase import RebasePlan


@step("plan rebase")
def plan_rebase(ledger: Ledger, declaration: Declaration, accept_model_change: bool) -> RebasePlan:
    """Read all batches of a chain; see `lindley.operations.rebase.plan_rebase`."""
    from lindley.operations.rebase import plan_rebase as plan_in_core

    plan = plan_in_core(ledger, declaration, accept_model_change=accept_model_change)
    get_run_logger().info("%d batches, seed %d", len(plan.batches), plan.seed)
    return plan


@step("fit rebase")
def fit_rebase(plan: RebasePlan) -> Outcome:
    """Fit all batches together and show progress; see `lindley.operations.rebase.fit_rebase`."""
    from lindley.operations.rebase import fit_rebase as fit_in_core

    chain = plan.declaration.name
    progress = ArtifactProgress(artifact_key(chain, "sampler"), f"Pooled refit of {chain}")
    outcome = fit_in_core(plan, progress=progress)
    progress.finish()
    get_run_logger().info("Gate %s", "passed" if outcome.gate.passed else "; ".join(outcome.gate.reasons))
    return outcome


@step("log rebase")
def log_rebase(ledger: Ledger, plan: RebasePlan, outcome: Outcome) -> LoggedLink:
    """Write the refit's artifacts, read them back and verify; see `lindley.operations.rebase.log_rebase`."""
    from lindley.operations.plan import RunContext
    from lindley.operations.rebase import log_rebase as log_in_core

    context = RunContext(flow_run_id=flow_run.id, flow_run_url=flow_run_url())
    return log_in_core(ledger, plan, outcome, context=context)


@step("publish audit")
def publish_audit(chain: str, outcome: Outcome) -> None:
    """Leave the audit as a table artifact of the flow run."""
    from lindley.report.tables import audit_rows

    if outcome.audit is not None:
        create_table_artifact(
            audit_rows(outcome.audit),
            key=artifact_key(chain, "audit"),
            description=f"{chain}: the chain against the pooled refit, in pooled sds",
        )
