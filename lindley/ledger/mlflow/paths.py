"""Where an embedded ledger has its artifacts: below its own working folder, wherever that is by now.

MLflow keeps absolute addresses. After a ledger was moved they name files that are gone; in a copy they name
those of the original. Lindley looks below the working folder instead, by the layout. Nothing here imports
MLflow.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

#: The folder of all artifacts in a working folder.
FOLDER = "mlartifacts"


def local(address: str) -> Path | None:
    """Return the path on this disk that an address names; None if only a server can resolve it."""
    parts = urlsplit(address)
    if parts.scheme == "file":
        return Path(url2pathname(parts.path))
    return None if parts.scheme else Path(address)  # e.g. mlflow-artifacts:/ or s3://


def database(uri: str) -> Path:
    """Return the file of an embedded ledger's database."""
    return Path(uri.removeprefix("sqlite:///"))


def belongs(uri: str, root: Path) -> bool:
    """Return whether an embedded ledger's database lies beside its artifacts, so that both move together."""
    return database(uri).resolve().parent == root.resolve()


def here(path: Path, root: Path, depth: int) -> Path | None:
    """Return where artifacts are in a working folder, by their layout; None where they have another one.

    Parameters
    ----------
    path
        Where they were when they were written.
    root
        The working folder.
    depth
        How many folders they lie below the folder of all artifacts.
    """
    if path.parts[-depth - 1 : -depth] != (FOLDER,):
        return None
    return root / FOLDER / Path(*path.parts[-depth:])
