"""Updates without Prefect: the same sequence with the core's functions as steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from flows import files
from flows.cli_output import say
from flows.result import UpdateResult
from flows.sequence import Steps, in_order, registered_result, update_one
from lindley.batch import read_batch
from lindley.declaration import load_declaration
from lindley.errors import LindleyError
from lindley.ledger import open_ledger
from lindley.pipeline import RunContext, fit_plan, import_trace, log_link, plan_update, register_link
from lindley.workspace import Workspace


def update_directly(
    workspace: Workspace,
    chain: str,
    path: Path,
    accept_model_change: bool,
    progress: Callable[[int, int], None],
) -> UpdateResult:
    """Turn a file into a link; files that landed before it come first, as in the flow `update`.

    Raises
    ------
    LindleyError
        If it, or an earlier file for a reason that is not its own, cannot become a link.
    """
    steps = Steps(
        open_ledger=open_ledger,
        read=read_batch,
        plan=lambda ledger, declaration, batch, accept: plan_update(
            ledger, declaration, batch, accept_model_change=accept
        ),
        fit=lambda plan: fit_plan(plan, progress=progress),
        log=lambda ledger, plan, outcome: log_link(ledger, plan, outcome, context=RunContext()),
        register=register_link,
        publish=lambda *_: None,
        say=say,
    )

    def one(older: Path) -> UpdateResult | LindleyError:
        try:
            return update_one(steps, workspace, chain, older, accept_model_change=accept_model_change)
        except LindleyError as error:
            return error

    with files.turn(workspace, chain):
        in_order(workspace, chain, path, one, say)
        return update_one(steps, workspace, chain, path, accept_model_change=accept_model_change)


def import_directly(workspace: Workspace, chain: str, trace: Path) -> UpdateResult:
    """Start a chain from a trace.

    Raises
    ------
    LindleyError
        If the trace does not fit the chain's model, or the chain has links already.
    """
    declaration = load_declaration(chain, workspace.models)
    with files.turn(workspace, chain):
        registered = import_trace(open_ledger(workspace), declaration, trace)
    return registered_result(trace, registered)
