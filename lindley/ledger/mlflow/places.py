"""Where an embedded ledger has its artifacts: below its own working folder, wherever that is by now.

MLflow keeps absolute addresses. Of a ledger that was moved they name files that are gone, of a copy those of
the original. Lindley itself looks below the working folder, by the layout. A tracking server hands the
addresses out as they are, to clients that read and write there themselves; before one serves a ledger that
came from another folder, they are written anew. No record holds them.

Nothing here imports MLflow.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from lindley.errors import LedgerUnavailable

#: The folder of all artifacts in a working folder.
FOLDER = "mlartifacts"
#: Tables and columns with addresses, and how many folders these lie below the folder of all artifacts:
#: EXPERIMENT, EXPERIMENT/RUN/artifacts, EXPERIMENT/RUN/artifacts/belief.
_COLUMNS = (
    ("experiments", "artifact_location", 1),
    ("runs", "artifact_uri", 3),
    ("model_versions", "source", 4),
    ("model_versions", "storage_location", 4),
)
#: Seconds to wait for somebody who writes.
_BUSY_SECONDS = 30.0


def local(address: str) -> Path | None:
    """Return the path on this disk that an address names; None if only a server can say where it is."""
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


def relocate(uri: str, root: Path) -> int:
    """Let the addresses in an embedded ledger's database name the files of its working folder.

    Experiments that somebody put elsewhere on purpose, and databases that are elsewhere themselves, stay as
    they are.

    Parameters
    ----------
    uri
        The ledger's ``sqlite:///...``.
    root
        The working folder.

    Returns
    -------
    int
        How many addresses were changed; none in a ledger that is where it was made.

    Raises
    ------
    LedgerUnavailable
        If the database cannot be used; nothing was changed then.
    """
    if not belongs(uri, root):
        return 0

    def moved(address: str | None, depth: int) -> str | None:
        path = local(address) if address else None
        place = here(path, root, depth) if path else None
        if address is None or place in (None, path):
            return address
        return place.as_uri() if address.startswith("file:") else str(place)

    try:
        with closing(sqlite3.connect(database(uri), timeout=_BUSY_SECONDS)) as connection, connection:
            connection.create_function("moved", 2, moved, deterministic=True)
            return sum(_rewrite(connection, *column) for column in _COLUMNS)
    except sqlite3.Error as error:
        raise LedgerUnavailable(
            "The places of a ledger's artifacts cannot be read or changed",
            expected=f"MLflow's database in {root}, which nobody else holds",
            found=str(error),
            todo="stop what writes to it, and run `mlflow db upgrade` on it if it is of an older MLflow",
        ) from error


def _rewrite(connection: sqlite3.Connection, table: str, column: str, depth: int) -> int:
    """Write the addresses of one column anew; none where MLflow did not make the table yet."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
        return 0
    value = f"moved({column}, {depth})"
    statement = f"UPDATE {table} SET {column} = {value} WHERE {value} <> {column}"  # noqa: S608 (names above)
    return connection.execute(statement).rowcount
