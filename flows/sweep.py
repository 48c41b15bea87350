"""The flow `sweep`: update every chain with the files in its landing folder, in case events were lost."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.states import Completed, Failed

from flows import own_run
from flows.approval.questions import settle
from flows.sequences import files
from flows.states import failed, name_with_chain, outcome_of
from flows.update import update_batch
from lindley.arrivals.storage import storage_of
from lindley.errors import LindleyError
from lindley.model.declaration import is_declared, load_declaration
from lindley.names import shown_name
from lindley.report.markdown import code, escape
from lindley.report.text import counted
from lindley.workspace import Workspace


class ChainStopped(LindleyError):
    """An unexpected error stopped the sweep of a chain."""


@dataclass
class Swept:
    """Result of a sweep.

    Parameters
    ----------
    rows
        One row per file: chain, file, status, message.
    failed
        Chains that stopped, with the error.
    """

    rows: list[dict[str, str]] = field(default_factory=list)
    failed: dict[str, LindleyError] = field(default_factory=dict)

    def add(self, chain: str, file: str, status: str, message: str) -> None:
        """Add a row."""
        self.rows.append({"chain": chain, "file": file, "status": status, "message": message})

    def as_dict(self) -> dict[str, Any]:
        """Return the result as JSON-able values."""
        return {
            "files": self.rows,
            "failed": {chain: error.as_dict() for chain, error in self.failed.items()},
        }


@flow(name="sweep", flow_run_name=name_with_chain, persist_result=False)
def sweep(chain: str | None = None) -> State[Any]:
    """Take every complete file in the landing folder, oldest first in each chain.

    An invalid file goes to ``rejected/`` and its chain continues. Any other failure stops that chain, because
    the next file must not overtake this one; other chains continue, and the next sweep tries again. Files of
    a chain that is not declared stay and are listed; they fail only a sweep of that chain. Questions to
    persons are closed where they were decided by a command meanwhile.

    Parameters
    ----------
    chain
        Sweep only this chain; all chains by default.
    """
    workspace = Workspace.from_environment()
    swept = Swept()
    try:
        listing = files.arrived(workspace)
    except LindleyError as error:
        return failed(error)
    names = sorted({arrival.chain for arrival in listing if chain in (None, arrival.chain)})
    undeclared = [name for name in names if name != chain and not is_declared(name, workspace.models)]
    for arrival in listing:
        if arrival.chain in undeclared:  # its files stay; the run that its event started has failed
            swept.add(
                arrival.chain, shown_name(arrival.path), "undeclared", "no chain of this name is declared"
            )
    names = [name for name in names if name not in undeclared]
    # Chains that another run is updating come last.
    busy = [name for name in names if not _take(workspace, name, swept, wait=False)]
    for name in busy:
        if own_run.in_worker():  # it would keep a place of the worker from idle chains
            swept.add(name, "-", "busy", "another run is updating it; the next sweep takes what is left")
        else:
            _take(workspace, name, swept, wait=True)
    for entry in listing.ignored:
        swept.add("-", shown_name(entry.path), "ignored", entry.why)
        folder = entry.path if entry.path.parent == storage_of(workspace).root else entry.path.parent
        if entry.error is not None and chain in (None, folder.name):
            swept.failed.setdefault(shown_name(folder), entry.error)
    settle(workspace, chain)
    _publish(swept)
    message = _message(swept)
    get_run_logger().info(message)
    if swept.failed:
        return Failed(message=message, data=swept)
    return Completed(message=message, data=swept)


def _take(workspace: Workspace, chain: str, swept: Swept, *, wait: bool) -> bool:
    """Take the files of a chain; False if another run is updating it and `wait` is false."""
    try:
        return _sweep_chain(workspace, chain, swept, wait)
    except LindleyError as error:
        get_run_logger().error("%s stopped: %s", chain, error)
        swept.failed[chain] = error
    except Exception as error:  # whatever it is, the other chains continue
        get_run_logger().exception("%s stopped", chain)
        swept.failed[chain] = ChainStopped(
            f"An unexpected error stopped the sweep of {chain}",
            found=f"{type(error).__name__}: {error}",
            todo="see the log of the flow run; the remaining files stay, and the next sweep tries again",
        )
    return True


def _sweep_chain(workspace: Workspace, chain: str, swept: Swept, wait: bool) -> bool:
    load_declaration(chain, workspace.models)  # an unknown chain is reported once and its files stay
    with files.turn(workspace, chain, files.TURN_SECONDS if wait else 0.0) as came:
        if not came and not wait:
            return False
        for arrival in files.waiting(workspace, chain):
            try:
                found = outcome_of(update_batch(chain, arrival.path.name, return_state=True))
            except Exception as error:
                swept.add(chain, shown_name(arrival.path), "failed", f"{type(error).__name__}: {error}")
                raise
            if not isinstance(found, LindleyError):
                swept.add(chain, shown_name(arrival.path), found.status, found.message)
                continue
            at_fault = files.at_fault(found)
            swept.add(chain, shown_name(arrival.path), "rejected" if at_fault else "failed", str(found))
            if not at_fault:
                raise found
    return True


def _message(swept: Swept) -> str:
    counts = Counter(row["status"] for row in swept.rows)
    parts = [f"{count} {status}" for status, count in counts.items()] or ["nothing in the landing folder"]
    stopped = [f"{chain} stopped: {error}" for chain, error in swept.failed.items()]
    return "; ".join(parts + stopped)


def _publish(swept: Swept) -> None:
    """Create a summary and a table as artifacts, unless both are empty."""
    if not swept.rows and not swept.failed:
        return
    lines = [f"- {code(chain)} stopped: {escape(str(error), 500)}" for chain, error in swept.failed.items()]
    text = "\n".join([f"### Sweep of the landing folder: {counted(len(swept.rows), 'file')}", "", *lines])
    create_markdown_artifact(text, key="sweep-summary", description=_message(swept)[:300])
    if swept.rows:
        create_table_artifact(swept.rows, key="sweep-files", description="Result for each file")
