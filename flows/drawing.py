"""Drawing the pictures of links in a flow run."""

from __future__ import annotations

from collections.abc import Mapping

from prefect.logging import get_run_logger

from lindley.ledger import Ledger
from tasks.plots import draw_plots


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
