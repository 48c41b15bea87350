"""The workspace: folders and addresses, from the environment or the working folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lindley.addresses import Bucket, bucket_of, is_address


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
    bucket
        Where landing, store, rejected and corrections are instead, in folders of these names; None for
        those of the file system.
    """

    root: Path
    models: Path
    landing: Path
    store: Path
    rejected: Path
    tracking_uri: str = field(repr=False)  # may hold a password
    bucket: Bucket | None = None

    @property
    def corrections(self) -> Path:
        """Folder of files that replace batches, one sub-folder per chain, beside the landing folder."""
        return self.landing.parent / "corrections"

    @property
    def data(self) -> str:
        """What holds landing, store, rejected and corrections: a folder, or the address of a bucket."""
        return str(self.landing.parent if self.bucket is None else self.bucket)

    @property
    def drop_here(self) -> str:
        """Where files are to be put, for people: the landing folder with one sub-folder per chain."""
        return str(self.landing if self.bucket is None else f"{self.bucket}/landing")

    @classmethod
    def from_environment(cls, root: Path | None = None) -> Workspace:
        """Read ``LINDLEY_HOME``, ``LINDLEY_MODELS``, ``LINDLEY_DATA`` and ``MLFLOW_TRACKING_URI``.

        Without them: the current folder, ``models/``, ``data/`` and ``sqlite:///mlflow.db`` below it.
        ``LINDLEY_DATA`` may be the address of a bucket (`lindley.addresses.bucket_of`).

        Raises
        ------
        NameRefused
            If ``LINDLEY_DATA`` is an address that holds no data.
        """
        home = Path(root or os.environ.get("LINDLEY_HOME") or Path.cwd()).resolve()
        given = os.environ.get("LINDLEY_DATA") or str(home / "data")
        if given.startswith("file://"):
            given = unquote(urlsplit(given).path)
        bucket = bucket_of(given) if is_address(given) else None
        data = home / "data" if bucket else Path(given).resolve()
        return cls(
            root=home,
            models=Path(os.environ.get("LINDLEY_MODELS") or home / "models").resolve(),
            landing=data / "landing",
            store=data / "store",
            rejected=data / "rejected",
            tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
            bucket=bucket,
        )
