"""Drawing the plots of links. The core is imported on first use, as in `tasks.link`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefect.logging import get_run_logger

from tasks.options import step

if TYPE_CHECKING:
    from lindley.ledger.protocol import Ledger


@step("draw plots")
def draw_plots(ledger: Ledger, runs: Mapping[str, str]) -> None:
    """Draw the plots of links that have none; see `lindley.operations.plots.draw_missing`.

    Parameters
    ----------
    runs
        Record digests by run id.
    """
    from lindley.operations.plots import draw_missing

    for run_id in draw_missing(ledger, runs):
        get_run_logger().info("Plots of run %s", run_id)
