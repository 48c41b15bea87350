"""Planning and fitting an update. The core is imported on first use: a no-op run must not wait for PyMC."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.logging import get_run_logger

from tasks.options import artifact_key, step
from tasks.progress import ArtifactProgress

if TYPE_CHECKING:
    from lindley.batch.batch import Batch
    from lindley.ledger.protocol import Ledger
    from lindley.model.declaration import Declaration
    from lindley.operations.plan import Outcome, Plan


@step("plan update")
def plan_update(
    ledger: Ledger,
    declaration: Declaration,
    batch: Batch,
    accept_model_change: bool,
    on_overlap: str = "refuse",
) -> Plan:
    """Decide on which head the batch is fitted; see `lindley.operations.plan.plan_update`."""
    from lindley.operations.plan import plan_update as plan_in_core

    plan = plan_in_core(
        ledger, declaration, batch, accept_model_change=accept_model_change, on_overlap=on_overlap
    )
    get_run_logger().info(plan.noop or f"Link {plan.link} on {plan.previous[:12]}, seed {plan.seed}")
    return plan


@step("fit update")
def fit_update(plan: Plan) -> Outcome:
    """Fit the plan and show the sampler's progress; see `lindley.operations.plan.fit_plan`."""
    from lindley.operations.plan import fit_plan

    chain = plan.declaration.name
    progress = ArtifactProgress(artifact_key(chain, "sampler"), f"Sampler of {chain}, link {plan.link}")
    outcome = fit_plan(plan, progress=progress)
    progress.finish()
    verdict = "passed" if outcome.gate.passed else "failed: " + "; ".join(outcome.gate.reasons)
    get_run_logger().info("Gate %s; %s", verdict, "; ".join(outcome.gate.warnings) or "no warnings")
    return outcome
