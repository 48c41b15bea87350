"""Whether the artifacts of an experiment go where the server itself puts them.

The creator of an experiment states where its artifacts go, and clients follow: a stranger who creates the
experiment of a chain first would get all its batches and traces. Nothing here imports MLflow.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lindley.ledger.mlflow import paths

#: The operator's own word: the address below which the server's artifacts are.
VARIABLE = "LINDLEY_ARTIFACT_ROOT"
#: Scheme of addresses that the tracking server itself serves; without a host, it is that server.
PROXIED = "mlflow-artifacts"
#: Where Databricks puts artifacts; it has no experiment from which the root could be read.
DATABRICKS = "dbfs:/databricks/mlflow-tracking"
#: Below a root, the folder of MLflow's workspaces.
_WORKSPACES = "workspaces"

#: An address as far as it matters: scheme, host and the names of its folders.
_Place = tuple[str, str, tuple[str, ...]]


def root_of(location: str, experiment: str) -> str:
    """Return the root of an experiment that has its default location; empty where it has another one."""
    head, _, name = location.rstrip("/").rpartition("/")
    return (f"{head}/" if head.endswith(":") else head) if name == experiment else ""


def is_own(location: str, names: Iterable[str], roots: Iterable[str], granted: str = "") -> bool:
    """Return whether an experiment's location is one that the server would have chosen.

    Parameters
    ----------
    location
        Of the experiment.
    names
        How its folder may be called: its id, and the name of its chain.
    roots
        Addresses right below which the server puts experiments, or in the folder of a workspace.
    granted
        An address below which the operator allows every place; empty for none.
    """
    place, names = _place(location), tuple(names)
    if place is None:
        return False
    if granted and _below(place, _place(granted)) is not None:
        return True
    for root in map(_place, roots):
        rest = _below(place, root)
        if rest is None:
            continue
        if len(rest) == 1 and rest[0] in names:
            return True
        if len(rest) == 3 and rest[0] == _WORKSPACES and rest[2] in names:
            return True
    return False


def _below(place: _Place, root: _Place | None) -> tuple[str, ...] | None:
    """Return the folders of a place below a root; None where it is not below it."""
    if root is None or place[:2] != root[:2] or place[2][: len(root[2])] != root[2]:
        return None
    return place[2][len(root[2]) :]


def _place(address: str) -> _Place | None:
    """Return what an address names; None for one that may name anything, with ``..`` or a query in it.

    Links are followed: a ledger that was moved may be served through a link in its old place.
    """
    local = paths.local(address)
    if local is not None:
        return None if ".." in local.parts else ("file", "", local.resolve().parts)
    parts = urlsplit(address)
    path = parts.path
    while unquote(path) != path:
        path = unquote(path)
    folders = tuple(name for name in path.split("/") if name)
    if parts.query or parts.fragment or {".", ".."} & {*folders} or "\\" in path:
        return None
    return parts.scheme.lower(), parts.netloc, folders


def of_folder(root: Path) -> tuple[str, str]:
    """Return the roots of a working folder: its own artifacts, and those of the server in front of it."""
    return (root / paths.FOLDER).as_uri(), f"{PROXIED}:/"
