"""Acts without Prefect: the same sequence with the core's functions as steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flows import files
from flows.acting import ActResult, ActSteps, act, correct_one
from flows.branches import branch_one
from flows.cli_output import say
from flows.direct import draw_plots
from lindley.acts import fit_act, log_act
from lindley.batch import read_batch
from lindley.branching import make_branch
from lindley.diff import Difference, diff
from lindley.ledger import open_ledger
from lindley.moving import plan_rollback
from lindley.pipeline import RunContext, register_link
from lindley.retracting import plan_correct, plan_retract
from lindley.workspace import Workspace

Progress = Callable[[int, int], None]


def retract_directly(
    workspace: Workspace, chain: str, batches: list[str], accept_model_change: bool, progress: Progress
) -> ActResult:
    """Let batches no longer count, as in the flow `retract`.

    Raises
    ------
    LindleyError
        If the chain cannot take it, or it cannot be fitted or logged.
    """
    with files.turn(workspace, chain):
        return act(
            _steps(progress),
            workspace,
            chain,
            lambda ledger, declaration: plan_retract(
                ledger, declaration, batches, accept_model_change=accept_model_change
            ),
        )


def correct_directly(
    workspace: Workspace, chain: str, old: str, path: Path, accept_model_change: bool, progress: Progress
) -> ActResult:
    """Let a file count in the place of a batch, as in the flow `correct`.

    Raises
    ------
    LindleyError
        If the chain cannot take it, or it cannot be fitted or logged.
    """
    with files.turn(workspace, chain):
        return correct_one(
            _steps(progress),
            workspace,
            chain,
            path,
            lambda ledger, declaration, batch: plan_correct(
                ledger, declaration, old, batch, accept_model_change=accept_model_change
            ),
        )


def rollback_directly(workspace: Workspace, chain: str, link: str, progress: Progress) -> ActResult:
    """Go back to an earlier link, as in the flow `rollback`.

    Raises
    ------
    LindleyError
        If there is no such link, or it cannot be logged.
    """
    with files.turn(workspace, chain):
        return act(
            _steps(progress),
            workspace,
            chain,
            lambda ledger, declaration: plan_rollback(ledger, declaration, link),
        )


def branch_directly(workspace: Workspace, chain: str, link: str, name: str, progress: Progress) -> ActResult:
    """Start a branch, as in the flow `branch`; nothing is fitted, so that there is no progress.

    Raises
    ------
    LindleyError
        If there is no such link, or another chain has the name.
    """

    def make(*found: Any) -> Any:
        return make_branch(*found, context=RunContext())

    with files.turn(workspace, chain):
        return branch_one(open_ledger, make, draw_plots, workspace, chain, link, name)


def diff_directly(workspace: Workspace, a: str, b: str) -> Difference:
    """Compare two beliefs; see `lindley.diff.diff`."""
    return diff(open_ledger(workspace), a, b)


def _steps(progress: Progress) -> ActSteps:
    return ActSteps(
        open_ledger=open_ledger,
        read=read_batch,
        fit=lambda plan: fit_act(plan, progress=progress),
        log=lambda ledger, plan, outcome: log_act(ledger, plan, outcome, context=RunContext()),
        register=register_link,
        draw=draw_plots,
        say=say,
    )
