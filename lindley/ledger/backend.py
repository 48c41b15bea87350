"""Choose the backend that keeps the ledger of a workspace; the only door to `lindley.ledger.mlflow`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lindley.errors import LedgerMoved, UnknownChain
from lindley.ledger.protocol import Ledger
from lindley.workspace import Workspace


def open_ledger(workspace: Workspace, *, create: bool = True) -> Ledger:
    """Open the ledger of a workspace.

    Parameters
    ----------
    create
        Make the database of an embedded ledger where there is none. What only reads creates nothing.

    Raises
    ------
    LedgerUnavailable
        If the tracking server does not answer or its database cannot be used.
    UnknownChain
        If there is no database and none is to be made.
    """
    if not create and not has_ledger(workspace):
        raise UnknownChain(
            "There is no ledger in this working folder, and so no chain",
            expected=f"the database {embedded_files(workspace).database}",
            found="no such file",
            todo="run this in the working folder, or name it in LINDLEY_HOME: an update makes a ledger",
        )
    from lindley.ledger.mlflow.store import MlflowLedger  # MLflow takes seconds to import

    return MlflowLedger(workspace.tracking_uri, workspace.root)


def has_ledger(workspace: Workspace) -> bool:
    """Return whether there is a ledger to open: opening an embedded one makes its database."""
    from lindley.ledger.mlflow import paths  # does not import MLflow

    uri = workspace.tracking_uri
    return not uri.startswith("sqlite:") or paths.database(uri).exists()


def living_origin(ledger: Ledger) -> Path | None:
    """Return the folder from which an embedded ledger was copied, if files are left there; None otherwise.

    MLflow's own commands, such as ``mlflow gc``, act on those files; Lindley's do not.
    """
    from lindley.ledger.mlflow import paths, store  # MLflow takes seconds to import

    origin = ledger.moved_from() if isinstance(ledger, store.MlflowLedger) else None
    return origin if origin is not None and (origin / paths.FOLDER).is_dir() else None


def client_state() -> tuple[str, ...]:
    """Return what the ledger's client holds for the whole process: addresses, and an open run.

    Runs of Lindley change none of it; a model file that uses the client itself may.
    """
    from lindley.ledger.mlflow.client import client_state as state  # MLflow takes seconds to import

    return state()


@dataclass(frozen=True)
class EmbeddedFiles:
    """Where an embedded ledger is: the file of its database and the folder of its artifacts."""

    database: Path
    artifacts: Path


def embedded_files(workspace: Workspace) -> EmbeddedFiles:
    """Return the files of a workspace's embedded ledger, for a server in front of them."""
    from lindley.ledger.mlflow import paths  # does not import MLflow

    return EmbeddedFiles(paths.database(workspace.tracking_uri), workspace.root / paths.FOLDER)


def require_servable(workspace: Workspace) -> None:
    """Refuse to serve an embedded ledger that was moved or copied here.

    MLflow keeps absolute addresses of artifacts, and its server hands them to clients, which then read and
    write in the folder that the ledger came from. Without a server Lindley uses the files here.

    Raises
    ------
    LedgerMoved
        If addresses lead to another folder.
    LedgerUnavailable
        If the database cannot be used.
    """
    from lindley.ledger.mlflow.store import MlflowLedger  # MLflow takes seconds to import

    origin = MlflowLedger(workspace.tracking_uri, workspace.root).moved_from()
    if origin is not None:
        raise LedgerMoved(
            "This ledger was moved or copied here, and MLflow's server would use the files of its old folder",
            expected=f"addresses of artifacts in {workspace.root}",
            found=f"addresses of artifacts in {origin}",
            todo=f"if nothing is left in the old folder, replace it by a link to this one (`ln -s "
            f"{workspace.root} {origin}`); if it holds the original, work here without servers: all commands "
            "but `lindley up` and `lindley ui` read and write the files of this folder",
        )
