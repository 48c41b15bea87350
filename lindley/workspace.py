"""The workspace: folders and addresses, from the environment or the working folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Workspace:
    """Folders and addresses of one installation.

    Parameters
    ----------
    root
        The working folder; the embedded servers keep their files below it.
    models, landing, store, rejected
        Folders of the declarations, of files that arrive (one sub-folder per chain), of accepted
        files archived by content digest, and of rejected files with their reports.
    tracking_uri
        MLflow tracking URI; registry and artifacts follow it.
    """

    root: Path
    models: Path
    landing: Path
    store: Path
    rejected: Path
    tracking_uri: str = field(repr=False)  # may hold a password

    @property
    def corrections(self) -> Path:
        """Folder of files that replace batches, one sub-folder per chain, beside the landing folder."""
        return self.landing.parent / "corrections"

    @classmethod
    def from_environment(cls, root: Path | None = None) -> Workspace:
        """Read ``LINDLEY_HOME``, ``LINDLEY_MODELS``, ``LINDLEY_DATA`` and ``MLFLOW_TRACKING_URI``.

        Without them: the current folder, ``models/``, ``data/`` and ``sqlite:///mlflow.db`` below it.
        """
        home = Path(root or os.environ.get("LINDLEY_HOME") or Path.cwd()).resolve()
        data = Path(os.environ.get("LINDLEY_DATA") or home / "data").resolve()
        return cls(
            root=home,
            models=Path(os.environ.get("LINDLEY_MODELS") or home / "models").resolve(),
            landing=data / "landing",
            store=data / "store",
            rejected=data / "rejected",
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
        )
