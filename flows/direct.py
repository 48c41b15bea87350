"""Flows without Prefect: the same sequences with the core's functions as steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flows.sequences import files
from flows.sequences.amend import ActResult, ActSteps, act, correct_one
from flows.sequences.branch import branch_one
from flows.sequences.rebase import RefitResult, RefitSteps, follow_up, refit
from flows.sequences.result import OnOverlap, UpdateResult
from flows.sequences.update import Steps, in_order, registered_result, update_one
from lindley.batch.batch import read_batch
from lindley.errors import LindleyError
from lindley.inference.inputs import Options
from lindley.inference.sbc import SbcResult, calibrate
from lindley.ledger.backend import open_ledger
from lindley.ledger.lineage import newest_data
from lindley.ledger.protocol import Ledger
from lindley.model.declaration import load_declaration
from lindley.operations.amendment import fit_act, log_act
from lindley.operations.branch import make_branch
from lindley.operations.diff import Difference, diff
from lindley.operations.plan import RunContext, fit_plan, import_trace, log_link, plan_update, register_link
from lindley.operations.plots import draw_missing
from lindley.operations.rebase import fit_rebase, log_rebase, plan_rebase
from lindley.operations.retract import plan_correct, plan_retract
from lindley.operations.rollback import plan_rollback
from lindley.workspace import Workspace

Progress = Callable[[int, int], None]
Notify = Callable[[str], object]


def _silent(_sentence: str) -> None:
    """Report nothing."""


def update_directly(
    workspace: Workspace,
    chain: str,
    path: Path,
    accept_model_change: bool,
    progress: Callable[[int, int], None],
    on_overlap: OnOverlap = "refuse",
    *,
    plots: bool = True,
    notify: Notify = _silent,
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
        draw=_drawing(notify) if plots else lambda *_: None,
        publish=lambda *_: None,
        notify=notify,
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
        follow_up(_refit_steps(progress, notify), workspace, result)
        return result

    def one(older: Path) -> UpdateResult | LindleyError:
        try:
            return one_and_refit(older)
        except LindleyError as error:
            return error

    with files.turn(workspace, chain):
        in_order(workspace, chain, path, one, notify)
        return one_and_refit(path, on_overlap)


def refit_directly(
    workspace: Workspace,
    chain: str,
    audit: bool,
    accept_model_change: bool,
    progress: Callable[[int, int], None],
    notify: Notify = _silent,
) -> RefitResult:
    """Fit all batches of a chain together, as in the flow `rebase`.

    Raises
    ------
    LindleyError
        If there is no such chain, or it cannot be fitted or logged.
    """
    with files.turn(workspace, chain):
        return refit(
            _refit_steps(progress, notify),
            workspace,
            chain,
            audit=audit,
            accept_model_change=accept_model_change,
        )


def _refit_steps(progress: Callable[[int, int], None], notify: Notify) -> RefitSteps:
    return RefitSteps(
        open_ledger=open_ledger,
        plan=lambda ledger, declaration, accept: plan_rebase(ledger, declaration, accept_model_change=accept),
        fit=lambda plan: fit_rebase(plan, progress=progress),
        log=lambda ledger, plan, outcome: log_rebase(ledger, plan, outcome, context=RunContext()),
        register=register_link,
        draw=_drawing(notify),
        publish=lambda *_: None,
        notify=notify,
    )


def calibrate_directly(
    workspace: Workspace,
    chain: str,
    updates: int,
    simulations: int,
    seed: int,
    progress: Callable[[int, int], None],
) -> SbcResult:
    """Calibrate the next updates of a chain; see `lindley.inference.sbc.calibrate`.

    Raises
    ------
    LindleyError
        If there is no such chain, it has no batch yet, or its outcomes cannot be simulated.
    """
    declaration = load_declaration(chain, workspace.models)
    belief, data = newest_data(open_ledger(workspace), declaration)
    options = Options(seed=seed, progress=progress)
    return calibrate(belief, data, options, updates=updates, simulations=simulations)


def import_directly(workspace: Workspace, chain: str, trace: Path, notify: Notify = _silent) -> UpdateResult:
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
    _drawing(notify)(ledger, {registered.run_id: registered.record_digest})
    return registered_result(trace, registered)


def _drawing(notify: Notify) -> Callable[[Ledger, Mapping[str, str]], None]:
    """Return a step that draws the plots of links that have none; a failure does not undo the link."""

    def draw(ledger: Ledger, runs: Mapping[str, str]) -> None:
        try:
            draw_missing(ledger, runs)
        except Exception as error:  # whatever the drawing raises, it is not worth a link
            notify(f"The link is registered, but its pictures were not drawn: {error}")

    return draw


def retract_directly(
    workspace: Workspace,
    chain: str,
    batches: list[str],
    accept_model_change: bool,
    progress: Progress,
    notify: Notify = _silent,
) -> ActResult:
    """Let batches no longer count, as in the flow `retract`.

    Raises
    ------
    LindleyError
        If the chain cannot take it, or it cannot be fitted or logged.
    """
    with files.turn(workspace, chain):
        return act(
            _steps(progress, notify),
            workspace,
            chain,
            lambda ledger, declaration: plan_retract(
                ledger, declaration, batches, accept_model_change=accept_model_change
            ),
        )


def correct_directly(
    workspace: Workspace,
    chain: str,
    old: str,
    path: Path,
    accept_model_change: bool,
    progress: Progress,
    notify: Notify = _silent,
) -> ActResult:
    """Let a file count in the place of a batch, as in the flow `correct`.

    Raises
    ------
    LindleyError
        If the chain cannot take it, or it cannot be fitted or logged.
    """
    with files.turn(workspace, chain):
        return correct_one(
            _steps(progress, notify),
            workspace,
            chain,
            path,
            lambda ledger, declaration, batch: plan_correct(
                ledger, declaration, old, batch, accept_model_change=accept_model_change
            ),
        )


def rollback_directly(
    workspace: Workspace, chain: str, link: str, progress: Progress, notify: Notify = _silent
) -> ActResult:
    """Go back to an earlier link, as in the flow `rollback`.

    Raises
    ------
    LindleyError
        If there is no such link, or it cannot be logged.
    """
    with files.turn(workspace, chain):
        return act(
            _steps(progress, notify),
            workspace,
            chain,
            lambda ledger, declaration: plan_rollback(ledger, declaration, link),
        )


def branch_directly(
    workspace: Workspace, chain: str, link: str, name: str, progress: Progress, notify: Notify = _silent
) -> ActResult:
    """Start a branch, as in the flow `branch`; nothing is fitted, so that there is no progress.

    Raises
    ------
    LindleyError
        If there is no such link, or another chain has the name.
    """

    def make(*found: Any) -> Any:
        return make_branch(*found, context=RunContext())

    with files.turn(workspace, chain):
        return branch_one(open_ledger, make, _drawing(notify), workspace, chain, link, name)


def diff_directly(workspace: Workspace, a: str, b: str) -> Difference:
    """Compare two beliefs; see `lindley.operations.diff.diff`."""
    return diff(open_ledger(workspace), a, b)


def _steps(progress: Progress, notify: Notify) -> ActSteps:
    return ActSteps(
        open_ledger=open_ledger,
        read=read_batch,
        fit=lambda plan: fit_act(plan, progress=progress),
        log=lambda ledger, plan, outcome: log_act(ledger, plan, outcome, context=RunContext()),
        register=register_link,
        draw=_drawing(notify),
        notify=notify,
    )
