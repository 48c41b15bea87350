"""The flow that turns one batch into a new link."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.sequences import files
from flows.sequences import update as sequences
from flows.sequences.result import OnOverlap, Result
from flows.sequences.steps import Steps
from flows.states import outcome_of
from flows.steps import run_sequence
from lindley.errors import LindleyError
from lindley.names import shown_name
from lindley.workspace import Workspace


def _run_name() -> str:
    """Return ``CHAIN <- FILE``; of a path only its last part is shown."""
    parameters = flow_run.parameters
    return f"{parameters['chain']} <- {shown_name(Path(parameters['file']))}"


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

    def one(steps: Steps, workspace: Workspace, chain: str) -> Result:
        path = files.locate(workspace, chain, file)
        return sequences.update_one(steps, workspace, chain, path, accept_model_change=accept_model_change)

    return run_sequence(one, chain)


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

    def take_earlier(older: Path) -> Result | LindleyError:
        return outcome_of(update_batch(chain, older.name, accept_model_change, return_state=True))

    return run_sequence(sequences.update, chain, file, accept_model_change, on_overlap, take_earlier)
