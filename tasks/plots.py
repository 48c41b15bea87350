"""Drawing the plots of links. The core is imported on first use, as in `tasks.update`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from prefect.logging import get_run_logger

from lindley.ledger.protocol import Ledger
from tasks.options import step

if TYPE_CHECKING:
    from lindley.ledger.protocol import Ledger


def draw(ledger: Ledger, runs: Mapping[str, str]) -> None:
    """Draw the pictures of links that have none; that the links are registered already is not undone.

    Parameters
    ----------
    runs
        Record digests by run id.
    """
    state = draw_plots(ledger, runs, return_state=True)
    if state.is_failed():
        get_run_logger().warning("The link is registered, but its pictures were not drawn: %s", state.message)


@step("draw plots")
def draw_plots(ledger: Ledger, runs: Mapping[str, str]) -> None:
    """Draw the pictures of links that have none; see `lindley.operations.plots.draw_missing`."""
    from lindley.operations.plots import draw_missing

    for run_id in draw_missing(ledger, runs):
        get_run_logger().info("Pictures of run %s", run_id)
