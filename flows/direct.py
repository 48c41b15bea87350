"""Updates without Prefect: the same sequence with the core's functions as steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from flows import files
from flows.cli_output import say
from flows.refit import RefitResult, RefitSteps, follow_up, refit
from flows.result import OnOverlap, UpdateResult
from flows.sequence import Steps, in_order, registered_result, update_one
from lindley.batch import read_batch
from lindley.calibration import Calibration, calibrate
from lindley.declaration import load_declaration
from lindley.errors import LindleyError
from lindley.ledger import Ledger, open_ledger
from lindley.lineage import newest_belief
from lindley.pipeline import RunContext, fit_plan, import_trace, log_link, plan_update, register_link
from lindley.plots import draw_missing
from lindley.rebasing import fit_rebase, log_rebase, plan_rebase
from lindley.workspace import Workspace


def update_directly(
    workspace: Workspace,
    chain: str,
    path: Path,
    accept_model_change: bool,
    progress: Callable[[int, int], None],
    on_overlap: OnOverlap = "refuse",
    *,
    plots: bool = True,
) -> UpdateResult:
    """Turn a file into a link; files that landed before it come first, as in the flow `update`.

    Without `plots` the link's pictures are left to the next update that draws, or to `lindley plots`.

    Raises
    ------
    LindleyError
        If it, or an earlier file for a reason that is not its own, cannot become a link.
    """
    steps = Steps(
        open_ledger=open_ledger,
        read=read_batch,
        plan=lambda ledger, declaration, batch, accept, overlap: plan_update(
            ledger, declaration, batch, accept_model_change=accept, on_overlap=overlap
        ),
        fit=lambda plan: fit_plan(plan, progress=progress),
        log=lambda ledger, plan, outcome: log_link(ledger, plan, outcome, context=RunContext()),
        register=register_link,
        draw=draw_plots if plots else lambda *_: None,
        publish=lambda *_: None,
        say=say,
    )

    def one_and_refit(file: Path, overlap: OnOverlap = "refuse") -> UpdateResult:
        result = update_one(
            steps,
            workspace,
            chain,
            file,
            accept_model_change=accept_model_change,
            on_overlap=overlap,
        )
        follow_up(_refit_steps(progress), workspace, result)
        return result

    def one(older: Path) -> UpdateResult | LindleyError:
        try:
            return one_and_refit(older)
        except LindleyError as error:
            return error

    with files.turn(workspace, chain):
        in_order(workspace, chain, path, one, say)
        return one_and_refit(path, on_overlap)


def refit_directly(
    workspace: Workspace,
    chain: str,
    audit: bool,
    accept_model_change: bool,
    progress: Callable[[int, int], None],
) -> RefitResult:
    """Fit all batches of a chain together, as in the flow `rebase`.

    Raises
    ------
    LindleyError
        If there is no such chain, or it cannot be fitted or logged.
    """
    with files.turn(workspace, chain):
        return refit(
            _refit_steps(progress), workspace, chain, audit=audit, accept_model_change=accept_model_change
        )


def _refit_steps(progress: Callable[[int, int], None]) -> RefitSteps:
    return RefitSteps(
        open_ledger=open_ledger,
        plan=lambda ledger, declaration, accept: plan_rebase(ledger, declaration, accept_model_change=accept),
        fit=lambda plan: fit_rebase(plan, progress=progress),
        log=lambda ledger, plan, outcome: log_rebase(ledger, plan, outcome, context=RunContext()),
        register=register_link,
        draw=draw_plots,
        publish=lambda *_: None,
        say=say,
    )


def calibrate_directly(
    workspace: Workspace,
    chain: str,
    updates: int,
    simulations: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> Calibration:
    """Calibrate the next updates of a chain; see `lindley.calibration.calibrate`.

    Raises
    ------
    LindleyError
        If there is no such chain, it has no batch yet, or its outcomes cannot be simulated.
    """
    declaration = load_declaration(chain, workspace.models)
    newest = newest_belief(open_ledger(workspace), declaration)
    return calibrate(
        declaration,
        newest.belief,
        newest.batch,
        carried=newest.carried,
        constants=newest.constants,
        updates=updates,
        simulations=simulations,
        seed=seed,
        progress=progress,
    )


def import_directly(workspace: Workspace, chain: str, trace: Path) -> UpdateResult:
    """Start a chain from a trace.

    Raises
    ------
    LindleyError
        If the trace does not fit the chain's model, or the chain has links already.
    """
    declaration = load_declaration(chain, workspace.models)
    ledger = open_ledger(workspace)
    with files.turn(workspace, chain):
        registered = import_trace(ledger, declaration, trace)
    draw_plots(ledger, {registered.run_id: registered.record_digest})
    return registered_result(trace, registered)


def draw_plots(ledger: Ledger, runs: Mapping[str, str]) -> None:
    """Draw the pictures of links that have none; that the links are registered already is not undone."""
    try:
        draw_missing(ledger, runs)
    except Exception as error:  # whatever the drawing raises, it is not worth a link
        say(f"The link is registered, but its pictures were not drawn: {error}")
