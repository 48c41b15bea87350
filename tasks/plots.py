"""Drawing the pictures of links. The core is imported on first use, as in `tasks.fit`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefect.logging import get_run_logger

from tasks.options import step

if TYPE_CHECKING:
    from lindley.ledger import Ledger


@step("draw plots")
def draw_plots(ledger: Ledger, runs: Mapping[str, str]) -> None:
    """Draw the pictures of links that have none; see `lindley.plots.draw_missing`."""
    from lindley.plots import draw_missing

    for run_id in draw_missing(ledger, runs):
        get_run_logger().info("Pictures of run %s", run_id)
