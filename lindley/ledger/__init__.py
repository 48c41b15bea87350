"""Ledgers: where chains of beliefs are kept, behind one protocol."""

from __future__ import annotations

from lindley.ledger.protocol import Ledger, Run, RunState
from lindley.workspace import Workspace

__all__ = ["Ledger", "Run", "RunState", "client_state", "open_ledger"]


def open_ledger(workspace: Workspace) -> Ledger:
    """Open the ledger of a workspace.

    Raises
    ------
    LedgerUnavailable
        If the tracking server does not answer or its database cannot be used.
    """
    from lindley.ledger.mlflow.store import MlflowLedger  # MLflow takes seconds to import

    return MlflowLedger(workspace.tracking_uri, workspace.root)


def client_state() -> tuple[str, ...]:
    """Return what the ledger's client holds for the whole process: addresses, and a run that was left open.

    Runs of Lindley change nothing of it; a model file that uses the client itself may.
    """
    from lindley.ledger.mlflow.client import client_state as state  # MLflow takes seconds to import

    return state()
