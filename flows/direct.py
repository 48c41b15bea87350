"""Sequences without Prefect: their steps are the functions of the core."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from flows.sequences.steps import Steps
from lindley.batch.reading import read_batch
from lindley.ledger.backend import open_ledger
from lindley.ledger.protocol import Ledger
from lindley.ledger.registration import register_link
from lindley.operations.plan import fit_plan

if TYPE_CHECKING:
    from lindley.ledger.writing import LoggedLink
    from lindley.operations.panel.fit import PanelOutcome
    from lindley.operations.plan import Outcome, Plan

Progress = Callable[[int, int], None]
Notify = Callable[[str], object]


def core_steps(
    progress: Progress | None = None, notify: Notify = lambda _: None, *, plots: bool = True
) -> Steps:
    """Return the steps as functions of the core.

    Parameters
    ----------
    progress
        Called with draws done and draws in all.
    notify
        Takes one sentence for people.
    plots
        Whether the plots of new links are drawn; without, they are left to the next run that draws, or to
        `lindley plots`.
    """

    def draw(ledger: Ledger, runs: Mapping[str, str]) -> None:
        from lindley.operations.plots import draw_missing  # to save start-up time: many updates draw nothing

        try:
            draw_missing(ledger, runs)
        except Exception as error:  # whatever the drawing raises, the link stands
            notify(f"The link is registered, but its plots were not drawn: {error}")

    def fit(plan: Plan) -> Outcome | PanelOutcome | None:
        if plan.compiling:
            notify(plan.compiling)
        if plan.members is None:
            return fit_plan(plan, progress=progress)
        from flows.panel.processes import fit_panel_here  # saves start-up time of chains with one belief

        return fit_panel_here(plan, progress)

    def log(ledger: Ledger, plan: Plan, outcome: Outcome | PanelOutcome | None) -> LoggedLink:
        from lindley.operations.log import log_plan  # to save start-up time: a known batch logs nothing

        return log_plan(ledger, plan, outcome)

    return Steps(
        open_ledger=open_ledger,
        read=read_batch,
        plan=lambda planner, *given, **options: planner(*given, **options),
        fit=fit,
        log=log,
        register=register_link,
        draw=draw if plots else lambda *_: None,
        announce=lambda *_: None,
        publish=lambda *_: None,
        notify=notify,
    )
