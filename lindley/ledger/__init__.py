"""Ledgers: where chains of beliefs are kept, behind one protocol."""

from __future__ import annotations

from lindley.ledger.protocol import Ledger, Run, RunState
from lindley.workspace import Workspace

__all__ = ["Ledger", "Run", "RunState", "open_ledger"]


def open_ledger(workspace: Workspace) -> Ledger:
    """Open the ledger of a workspace.

    Raises
    ------
    LedgerUnavailable
        If the tracking server does not answer or its database cannot be used.
    """
    from lindley.ledger.mlflow.store import MlflowLedger  # MLflow takes seconds to import

    return MlflowLedger(workspace.tracking_uri, workspace.root)
