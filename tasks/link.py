"""From a plan to a registered link, whatever its kind.

The core is imported on first use: a run with nothing to do must not wait for PyMC.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.options import artifact_key, flow_run_url, step
from tasks.progress import ArtifactProgress

if TYPE_CHECKING:
    from lindley.ledger.protocol import Ledger
    from lindley.ledger.registration import Registered
    from lindley.ledger.writing import LoggedLink
    from lindley.operations.panel.fit import PanelOutcome
    from lindley.operations.plan import Outcome, Plan


@step("plan")
def plan(planner: Callable[..., Plan], *given: Any, **options: Any) -> Plan:
    """Decide what will be fitted on which head, with one of the planners of `lindley.operations`."""
    found = planner(*given, **options)
    get_run_logger().info(
        found.noop
        or f"Link {found.link} on {found.previous[:12]}: {found.kind}, {len(found.batches)} batches"
    )
    return found


@step("fit")
def fit(plan: Plan) -> Outcome | None:
    """Fit the plan and show the sampler's progress; see `lindley.operations.plan.fit_plan`."""
    from lindley.operations.plan import fit_plan

    if not plan.fits:
        return None
    chain = plan.declaration.name
    place = "pooled refit" if plan.kind == "rebase" else f"link {plan.link}, {plan.kind}"
    progress = ArtifactProgress(artifact_key(chain, "sampler"), f"Sampler of {chain}, {place}")
    outcome = fit_plan(plan, progress=progress)
    progress.finish()
    if outcome is not None:
        passed = "passed" if outcome.gate.passed else "failed: " + "; ".join(outcome.gate.reasons)
        get_run_logger().info("Gate %s; %s", passed, "; ".join(outcome.gate.warnings) or "no warnings")
    return outcome


@step("log link")
def log_link(ledger: Ledger, plan: Plan, outcome: Outcome | PanelOutcome | None) -> LoggedLink:
    """Write the link's artifacts, read them back and verify; see `lindley.operations.log.log_plan`."""
    from lindley.ledger.writing import RunContext
    from lindley.operations.log import log_plan

    context = RunContext(flow_run_id=flow_run.id, flow_run_url=flow_run_url())
    logged = log_plan(ledger, plan, outcome, context=context)
    get_run_logger().info("Run %s, record %s", logged.run_id, logged.record_digest[:12])
    return logged


@step("register link")
def register_link(ledger: Ledger, logged: LoggedLink) -> Registered:
    """Register the link as the next version; see `lindley.ledger.registration.register_link`."""
    from lindley.ledger import registration

    registered = registration.register_link(ledger, logged)
    get_run_logger().info("Version %s: %s", registered.version, registered.status)
    return registered
