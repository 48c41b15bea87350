"""The flow that turns one batch into a new link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run

from flows.rebase import refit_steps
from flows.sequences import files
from flows.sequences.rebase import follow_up
from flows.sequences.result import OnOverlap, UpdateResult
from flows.sequences.update import Steps, in_order, update_one
from flows.states import completed, failed, value_of
from lindley.errors import LindleyError
from lindley.ledger.backend import open_ledger
from lindley.workspace import Workspace
from tasks.batch import read_batch
from tasks.link import log_link, register_link
from tasks.plots import draw
from tasks.publish import publish
from tasks.update import fit_update, plan_update


def _run_name() -> str:
    """Return ``CHAIN <- FILE``; of a path only its last part is shown."""
    parameters = flow_run.parameters
    return f"{parameters['chain']} <- {Path(parameters['file']).name}"


def _steps() -> Steps:
    return Steps(
        open_ledger=open_ledger,
        read=read_batch,
        plan=plan_update,
        fit=fit_update,
        log=log_link,
        register=register_link,
        draw=draw,
        publish=_publish,
        notify=get_run_logger().info,
    )


def _publish(*link: Any) -> None:
    """Show the link; that it is registered already is not undone when the pages cannot be made."""
    state = publish(*link, return_state=True)
    if state.is_failed():
        get_run_logger().warning("The link is registered, but its artifacts were not made: %s", state.message)


@flow(name="update", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def update_batch(chain: str, file: str, accept_model_change: bool = False) -> State[Any]:
    """Turn exactly one file into a link. Part of `update` and `sweep`, which see to the order.

    Parameters
    ----------
    chain
        Name of the chain.
    file
        Name of a file in the chain's landing folder, or an absolute path.
    accept_model_change
        Go on although the model's code is not the head's.
    """
    workspace = Workspace.from_environment()
    try:
        path = files.locate(workspace, chain, file)
        result = update_one(_steps(), workspace, chain, path, accept_model_change=accept_model_change)
        follow_up(refit_steps(), workspace, result)
    except LindleyError as error:
        return failed(error)
    return completed(result)


@flow(name="update", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def update(
    chain: str, file: str, accept_model_change: bool = False, on_overlap: OnOverlap = "refuse"
) -> State[Any]:
    """Turn a file into a link of a chain.

    Files that wait in the chain's landing folder since before this one come first, each in a run of
    its own, so that batches count in the order in which they arrived whatever the order of the
    events. One of them that is itself at fault goes to ``rejected/`` and does not stop this one; one
    that fails for another reason does. A file that another run took meanwhile is nothing to do.

    Parameters
    ----------
    chain
        Name of the chain.
    file
        Name of a file in the chain's landing folder, or an absolute path.
    accept_model_change
        Go on although the model's code is not the head's; the new code is recorded with the link.
    on_overlap
        What becomes of rows whose key is counted already: ``refuse`` the file, or ``drop`` these rows. It
        is about this file alone, not about those before it.
    """
    workspace = Workspace.from_environment()
    notify = get_run_logger().info

    def one(older: Path) -> UpdateResult | LindleyError:
        return outcome_of(update_batch(chain, older.name, accept_model_change, return_state=True))

    try:
        path = files.locate(workspace, chain, file)
        with files.turn(workspace, chain) as came:
            if not came:
                notify("Another update of %s takes long; this one goes on beside it", chain)
            in_order(workspace, chain, path, one, notify)
            result = update_one(
                _steps(),
                workspace,
                chain,
                path,
                accept_model_change=accept_model_change,
                on_overlap=on_overlap,
            )
            follow_up(refit_steps(), workspace, result)
    except LindleyError as error:
        return failed(error)
    return completed(result)


def outcome_of(state: State[Any]) -> UpdateResult | LindleyError:
    """Return what a run of `update` or `update_batch` came to; see `flows.states.value_of`."""
    return value_of(state, UpdateResult)
