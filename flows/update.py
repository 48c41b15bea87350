"""The flows that turn one batch, or what is new at a source, into new links."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.sequences import files
from flows.sequences import pull as pulls
from flows.sequences import update as sequences
from flows.sequences.result import OnOverlap, Result, Status
from flows.sequences.steps import Steps
from flows.states import name_with_chain, outcome_of
from flows.steps import run_sequence
from flows.unexpected import unexpected
from lindley.errors import LindleyError
from lindley.model.declaration import declared_chains, load_declaration
from lindley.names import shown_name
from lindley.workspace import Workspace


def _run_name() -> str:
    """Return ``CHAIN <- FILE``; of a path only its last part is shown."""
    parameters = flow_run.parameters
    return f"{parameters['chain']} <- {shown_name(PurePath(parameters['file']))}"


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

    def take_earlier(older: PurePath) -> Result | LindleyError:
        return outcome_of(update_batch(chain, older.name, accept_model_change, return_state=True))

    return run_sequence(sequences.update, chain, file, accept_model_change, on_overlap, take_earlier)


@flow(name="pull", flow_run_name=name_with_chain, persist_result=False, validate_parameters=True)
def pull(
    chain: str, accept_model_change: bool = False, again: bool = False, rejected: bool = False
) -> State[Any]:
    """Turn what is new or revised at a chain's source into links.

    Parameters
    ----------
    chain
        Name of the chain; its declaration has a source.
    accept_model_change
        Go on although the model's code is not the head's.
    again
        Compare all rows, also where the source still has the version that was pulled last.
    rejected
        Bring back the rows that a person rejected, which stay out otherwise while they are as they were.
    """
    return run_sequence(pulls.pull, chain, accept_model_change, again, rejected)


@flow(name="pull-all", persist_result=False)
def pull_all() -> State[Any]:
    """Pull every chain that has a source, each in a run of its own; one that fails stops no other."""
    workspace, failures, done = Workspace.from_environment(), list[str](), list[str]()
    for chain in declared_chains(workspace.models):
        try:
            if load_declaration(chain, workspace.models).source is None:
                continue
        except LindleyError as error:  # its file may have no source at all
            get_run_logger().warning("%s is left out: %s", chain, error)
            continue
        try:
            found: Result | LindleyError = outcome_of(pull(chain, return_state=True))
        except LindleyError as error:
            found = error
        except Exception as error:  # of a model's own code: the other chains continue
            found = unexpected(error, f"pull {chain}")
        failed = isinstance(found, LindleyError) or found.status == Status.QUARANTINED
        text = str(found) if isinstance(found, LindleyError) else found.message
        (failures if failed else done).append(f"{chain}: {text}")
    message = "; ".join([*failures, *done]) or "no chain has a source"
    get_run_logger().info(message)
    return Failed(message=message) if failures else Completed(message=message)
