"""Which servers run for a working folder: written by ``lindley up`` and ``ui``, read by all commands."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from lindley.atomic import write_over
from lindley.workspace import Workspace

#: Seconds that a server on this machine may take to say that it is alive.
ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Servers:
    """Addresses of the two servers, without a slash at the end.

    Parameters
    ----------
    mlflow, prefect
        Where they are.
    process
        Id of the process that started them.
    """

    mlflow: str
    prefect: str
    process: int


def state_file(workspace: Workspace) -> Path:
    """Return the file that holds the addresses."""
    return workspace.root / ".lindley" / "up.json"


def remember(workspace: Workspace, servers: Servers) -> None:
    """Write the addresses for other commands."""
    path = state_file(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_over((json.dumps(asdict(servers), indent=2) + "\n").encode(), path)


def forget(workspace: Workspace) -> None:
    """Remove the addresses."""
    state_file(workspace).unlink(missing_ok=True)


def addresses(workspace: Workspace) -> Servers | None:
    """Return the servers of this working folder when both are alive; None otherwise.

    A file that a killed ``lindley up`` left behind is not believed: both servers are asked.
    """
    try:
        document = json.loads(state_file(workspace).read_text(encoding="utf-8"))
        servers = Servers(str(document["mlflow"]), str(document["prefect"]), int(document["process"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    both = mlflow_answers(servers.mlflow) and prefect_answers(servers.prefect)
    return servers if both else None


def mlflow_answers(address: str) -> bool:
    """Return whether an MLflow server is alive at an address; one that is no page cannot be asked."""
    return not address.startswith("http") or _get(f"{address}/health").strip() == "OK"


def prefect_answers(address: str) -> bool:
    """Return whether a Prefect server is alive at an address."""
    return _get(f"{address}/api/health").strip() == "true"


def _get(url: str) -> str:
    """Return the beginning of a page; empty when nothing answers. Proxies are not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=ANSWER_SECONDS) as response:
            return str(response.read(100).decode("utf-8", "replace"))
    except (OSError, ValueError, urllib.error.URLError):
        return ""
