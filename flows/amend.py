"""The flows that take batches out, replace one, go back, start a branch, or decide on a candidate."""

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
    keys = ("old", "link", "file", "version")
    what = [*given.get("batches", []), *(str(given[key]) for key in keys if given.get(key))]
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


@flow(name="approve", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def approve(chain: str, version: str, who: str, why: str) -> State[Any]:
    """Let a candidate or a quarantined version become the head.

    Parameters
    ----------
    chain
        Name of the chain.
    version
        Number of the version, or beginning of its record's digest; empty for the only candidate.
    who
        Who approves it: part of the record.
    why
        Why: part of the record.
    """
    return run_sequence(sequences.approve, chain, version, who, why)


@flow(name="reject", flow_run_name=_run_name, persist_result=False, validate_parameters=True)
def reject(chain: str, version: str, who: str, why: str) -> State[Any]:
    """Record that a candidate or a quarantined version does not become the head.

    Parameters
    ----------
    chain
        Name of the chain.
    version
        Number of the version, or beginning of its record's digest; empty for the only candidate.
    who
        Who rejects it: part of the record.
    why
        Why: part of the record.
    """
    return run_sequence(sequences.reject, chain, version, who, why)
