"""Bring the questions in Prefect's pages up to what the ledger says.

A decision by a command without Prefect closes no run, and a process may die with its question. The sweep
looks after both.
"""

from __future__ import annotations

from collections.abc import Callable

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.logging import get_run_logger

from lindley.errors import LindleyError, UnknownLink
from lindley.ledger.backend import open_ledger
from lindley.ledger.chain import Chain
from lindley.ledger.protocol import Ledger
from lindley.ledger.reading import find_chain
from lindley.operations.approval.candidates import choose_version, settled
from lindley.workspace import Workspace
from tasks.asking import ask, close, crashed_questions, open_questions


def settle(workspace: Workspace, chain: str | None = None) -> None:
    """Close the questions that were answered elsewhere, and ask again those whose process died.

    A failure is logged and changes nothing else.

    Parameters
    ----------
    chain
        Only those of this chain; of all chains by default.
    """
    try:
        with get_client(sync_client=True) as client:
            waiting, crashed = open_questions(client), crashed_questions(client)
            wanted = [run for run in (*waiting, *crashed) if chain in (None, run.parameters.get("chain"))]
            if not wanted:
                return
            read = _reader(open_ledger(workspace))
            asked = {_about(run) for run in waiting}
            for run in wanted:
                name, version = _about(run)
                try:
                    found = read(name)
                    chosen = choose_version(found, version)
                except LindleyError as error:  # an unreadable chain, or one that is gone
                    if isinstance(error, UnknownLink) and run in waiting:
                        close(client, run, str(error))
                    continue
                done = settled(found, chosen)
                if done and run in waiting:
                    close(client, run, done)
                elif not done and run in crashed and (name, version) not in asked:
                    asked.add((name, version))
                    ask(client, name, version, chosen.record, again=str(run.id))
    except Exception as error:  # whatever Prefect refuses, or the ledger
        get_run_logger().warning("The questions to persons were not brought up to date: %s", error)


def _about(run: FlowRun) -> tuple[str, str]:
    return str(run.parameters.get("chain", "")), str(run.parameters.get("version", ""))


def _reader(ledger: Ledger) -> Callable[[str], Chain]:
    """Return a function that reads each chain once."""
    known: dict[str, Chain] = {}

    def read(name: str) -> Chain:
        if name not in known:
            known[name] = find_chain(ledger, name)
        return known[name]

    return read
