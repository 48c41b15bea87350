"""Verifying chains. The core is imported on first use, as in `tasks.link`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect.artifacts import create_table_artifact
from prefect.logging import get_run_logger

from tasks.options import artifact_key, step

if TYPE_CHECKING:
    from lindley.ledger.protocol import Ledger
    from lindley.verification.check import Checked, Checks


@step("verify chain")
def verify_chain(ledger: Ledger, chain: str, checks: Checks) -> Checked:
    """Verify a chain; see `lindley.verification.check.check`."""
    from lindley.verification.check import check

    checked = check(ledger, chain, checks, notify=get_run_logger().info)
    (get_run_logger().info if checked.report.ok else get_run_logger().error)(checked.message)
    return checked


@step("publish report")
def publish_report(checked: Checked) -> None:
    """Publish the findings as a table artifact of the flow run."""
    create_table_artifact(
        checked.rows() or [{"chain": checked.report.chain, "what": "verified", "message": checked.message}],
        key=artifact_key(checked.report.chain, "verify"),
        description=checked.message[:300],
    )
