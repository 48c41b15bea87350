"""Starting a branch. Knows neither Prefect nor MLflow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from flows.sequences.amend import ActResult
from lindley.model.declaration import load_declaration
from lindley.workspace import Workspace

if TYPE_CHECKING:
    from lindley.ledger.protocol import Ledger
    from lindley.model.declaration import Declaration
    from lindley.operations.branch import Branched


def branch_one(
    open_ledger: Callable[[Workspace], Ledger],
    make: Callable[[Ledger, Declaration, str, str], Branched],
    draw: Callable[[Ledger, Mapping[str, str]], object],
    workspace: Workspace,
    chain: str,
    link: str,
    name: str,
) -> ActResult:
    """Start a branch from a link of a chain, or say that it is there already.

    Raises
    ------
    LindleyError
        If there is no such chain or link, or another chain has the name.
    """
    from lindley.operations.branch import branch_name  # with the ledger's libraries

    full = branch_name(chain, name)
    ledger = open_ledger(workspace)
    made = make(ledger, load_declaration(full, workspace.models), chain, link)
    where = f"continues {chain} from link {made.start.number}"
    if made.registered is None:
        return ActResult(
            status="unchanged",
            chain=full,
            kind="branch",
            message=f"{full} is there already and {where}; nothing was done",
        )
    found = made.registered
    draw(ledger, {found.run_id: found.record_digest})
    return ActResult(
        status="accepted",
        chain=full,
        kind="branch",
        message=f"{full} {where}; its own first link is {found.link} (version {found.version})",
        link=found.link,
        version=found.version,
        run_id=found.run_id,
        record_digest=found.record_digest,
        run_url=found.run_url,
        version_url=found.version_url,
    )
