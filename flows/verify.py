"""The flow that verifies chains, every night and on request."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.monitoring.verified import remember_verification
from flows.states import name_with_chain
from lindley.errors import LindleyError, NotAsRecorded
from lindley.ledger.backend import open_ledger
from lindley.names import divided
from lindley.verification.check import Checked, Checks, Unread
from lindley.workspace import Workspace
from tasks.announce import emit
from tasks.verify import publish_report, verify_chain


@flow(name="verify", flow_run_name=name_with_chain, persist_result=False, validate_parameters=True)
def verify(
    chain: str | None = None,
    reproduce: int = 0,
    keys: list[str] | None = None,
    known: dict[str, str] | None = None,
    since: dict[str, str] | None = None,
) -> State[Any]:
    """Recompute every digest and check every rule; the run fails with the first finding.

    All chains are verified, whatever is found in one of them.

    Parameters
    ----------
    chain
        Only this one; all of them by default.
    reproduce
        Fit so many of the newest links of each chain again and compare. Executes the code that is stored
        beside them.
    keys
        Files of public keys on the worker: every link must be signed by one of them.
    known
        By chain: the file of an acknowledgement, on the worker. Its findings are no errors.
    since
        By chain: the file of a head statement, on the worker. Of the links that it states only record and
        batch are read; chains without one are verified completely.
    """
    checks = Checks(keys=tuple(map(Path, keys or ())), reproduce=reproduce > 0, newest=max(reproduce, 0))
    found: dict[str, Checked | LindleyError] = {}
    try:
        ledger = open_ledger(Workspace.from_environment())
        names, others = ([chain], []) if chain else divided(ledger.chains())
    except LindleyError as error:
        return _ended({chain or "the ledger": error})
    for name in others:
        get_run_logger().warning("The registered model '%s' is no chain: no chain can have this name", name)
    for name in names:
        try:
            file, statement = (known or {}).get(name), (since or {}).get(name)
            of_chain = checks if file is None else replace(checks, known=(Path(file),))
            of_chain = replace(of_chain, since=Path(statement) if statement else None)
            checked = verify_chain(ledger, name, of_chain)
            remember_verification(Workspace.from_environment(), checked)
            publish_report(checked)
            found[name] = checked
        except Exception as error:  # whatever is wrong with this chain, the others are verified
            found[name] = Unread.of(name, error).error
            get_run_logger().error("%s cannot be verified: %s", name, found[name])
        if _is_bad(found[name]):
            payload = {"chain": name, "message": _message(found[name])}
            emit("lindley.chain.verify-failed", name, str(flow_run.id), payload)
    return _ended(found)


def _is_bad(item: Checked | LindleyError) -> bool:
    return isinstance(item, LindleyError) or item.report.first_error is not None


def _message(item: Checked | LindleyError) -> str:
    return item.message if isinstance(item, Checked) else str(item)


def _ended(found: dict[str, Checked | LindleyError]) -> State[Any]:
    """Return the state of the run: failed with the first chain that is not as recorded."""
    bad = [item for item in found.values() if _is_bad(item)]
    if not bad:
        messages = [item.message for item in found.values() if isinstance(item, Checked)]
        return Completed(name="Verified", message="; ".join(messages) or "There are no chains", data=found)
    error = bad[0]
    if isinstance(error, Checked):
        error = NotAsRecorded(
            f"{error.report.chain} is not as recorded",
            expected="a chain without findings",
            found=error.message,
            todo=f"run `lindley verify {error.report.chain}`; docs/ledger-format.md explains each rule",
        )
    return Failed(message=str(error), data=error)
