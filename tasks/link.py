"""Logging and registering a link."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from tasks.options import flow_run_url, step

if TYPE_CHECKING:
    from lindley.ledger.protocol import Ledger
    from lindley.operations.plan import LoggedLink, Outcome, Plan, Registered


@step("log link")
def log_link(ledger: Ledger, plan: Plan, outcome: Outcome) -> LoggedLink:
    """Write the link's artifacts, read them back and verify; see `lindley.operations.plan.log_link`."""
    from lindley.operations.plan import RunContext
    from lindley.operations.plan import log_link as log_in_core

    context = RunContext(flow_run_id=flow_run.id, flow_run_url=flow_run_url())
    logged = log_in_core(ledger, plan, outcome, context=context)
    get_run_logger().info("Run %s, record %s", logged.run_id, logged.record_digest[:12])
    return logged


@step("register link")
def register_link(ledger: Ledger, logged: LoggedLink) -> Registered:
    """Register the link as the next version; see `lindley.operations.plan.register_link`."""
    from lindley.operations.plan import register_link as register_in_core

    registered = register_in_core(ledger, logged)
    get_run_logger().info("Version %s: %s", registered.version, registered.status)
    return registered
