"""The flows that take batches out, replace one, go back to an earlier link, or start a branch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run

from flows.sequences import amend as sequences
from flows.steps import run_sequence
from lindley.names import shown_name


def _run_name() -> str:
    """Return e.g. ``retract CHAIN: 3, 4``; of a path only its last part is shown."""
    given, name = flow_run.parameters, str(flow_run.flow_name)
    what = [*given.get("batches", []), *(str(given[key]) for key in ("old", "link", "file") if key in given)]
    return f"{name} {given['chain']}: {', '.join(shown_name(Path(str(item))) for item in what)}"


@flow(name="retract", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def retract(chain: str, batches: list[str], accept_model_change: bool = False) -> State[Any]:
    """Let batches no longer count: a new link, fitted as if they had never come.

    Parameters
    ----------
    chain
        Name of the chain.
    batches
        Which ones: number of the link, beginning of the batch's digest, or name of its file.
    accept_model_change
        Go on although the model's code is not the head's.
    """
    return run_sequence(sequences.retract, chain, batches, accept_model_change)


@flow(name="correct", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def correct(chain: str, old: str, file: str, accept_model_change: bool = False) -> State[Any]:
    """Let a file count in the place of a batch: a new link, fitted as if it had come then.

    Parameters
    ----------
    chain
        Name of the chain.
    old
        The batch that is replaced: number of the link, beginning of the batch's digest, or name of its file.
    file
        Name of a file in the chain's folder of corrections, ``data/corrections/CHAIN/``, or an absolute
        path outside the landing folder. It stays there.
    accept_model_change
        Go on although the model's code is not the head's.
    """
    return run_sequence(sequences.correct, chain, old, file, accept_model_change)


@flow(name="rollback", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def rollback(chain: str, link: str) -> State[Any]:
    """Go back to the belief of an earlier link: a new link with that belief.

    Parameters
    ----------
    chain
        Name of the chain.
    link
        Number of the link, or beginning of its record's digest.
    """
    return run_sequence(sequences.rollback, chain, link)


@flow(name="branch", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def branch(chain: str, link: str, name: str) -> State[Any]:
    """Start a what-if chain from a link.

    Parameters
    ----------
    chain
        Name of the chain that it continues.
    link
        Number of the link, beginning of its record's digest, or ``head``.
    name
        Name of the branch; its full name is ``CHAIN--NAME``.
    """
    return run_sequence(sequences.branch, chain, link, name)
