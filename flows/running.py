"""Addresses of a working folder's servers: written by ``lindley up`` and ``ui``, read by all commands."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from lindley import process
from lindley.addresses import on_loopback, public
from lindley.atomic import write_over
from lindley.workspace import Workspace

#: Seconds that a server may take to answer.
ANSWER_SECONDS = 2.0


@dataclass(frozen=True)
class Servers:
    """Addresses of the two servers, without a slash at the end.

    Parameters
    ----------
    mlflow
        Of MLflow's pages and API.
    prefect_api
        Of Prefect's API, as ``PREFECT_API_URL`` has it.
    ours
        Whether Lindley runs the Prefect server, with the password of the working folder.
    pages
        Of the pages of all chains (`flows.live.pages`); empty where Lindley runs none.
    """

    mlflow: str
    prefect_api: str
    ours: bool = False
    pages: str = ""

    @property
    def prefect(self) -> str:
        """Address of Prefect's pages: beside the API on a server that is not Prefect Cloud."""
        return self.prefect_api.removesuffix("/api")


def state_file(workspace: Workspace) -> Path:
    """Return the file that holds the addresses."""
    return workspace.root / ".lindley" / "up.json"


def remember(workspace: Workspace, servers: Servers) -> None:
    """Write the addresses for other commands, and describe this process, which runs the servers.

    Passwords are left out: no file of Lindley's contains any.
    """
    path = state_file(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "mlflow": public(servers.mlflow),
        "prefect_api": public(servers.prefect_api),
        "ours": servers.ours,
        "pages": servers.pages,
        "folder": str(workspace.root),
        "process": process.describe(),
    }
    write_over((json.dumps(document, indent=2) + "\n").encode(), path)


def forget(workspace: Workspace) -> None:
    """Remove the addresses."""
    state_file(workspace).unlink(missing_ok=True)


def addresses(workspace: Workspace) -> Servers | None:
    """Return the servers of this working folder when both answer; None otherwise.

    A file that a killed ``lindley up`` left behind is ignored, and so is one that was copied from another
    folder: the ports may by now belong to another folder's servers, which would get this folder's links.
    """
    try:
        document = json.loads(state_file(workspace).read_text(encoding="utf-8"))
        addresses = str(document["mlflow"]), str(document["prefect_api"])
        servers = Servers(*addresses, ours=document["ours"] is True, pages=str(document.get("pages", "")))
        ours = document["folder"] == str(workspace.root)
        if not ours or not process.lives(str(document["process"])):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    both = mlflow_answers(servers.mlflow) and prefect_answers(servers.prefect_api)
    return servers if both else None


def mlflow_answers(address: str) -> bool:
    """Return whether an MLflow server answers at an address; True for a registry without an HTTP address."""
    return not address.startswith("http") or (_get(f"{address}/health") or "").strip() == "OK"


def prefect_answers(api: str) -> bool:
    """Return whether a Prefect server answers at the address of an API.

    For another machine any answer will do: only Prefect's own client has the key to that server.
    """
    page = _get(f"{api}/health")
    return page is not None and (page.strip() == "true" or not on_loopback(api))


def pages_answer(address: str) -> bool:
    """Return whether the pages of all chains answer at an address."""
    return (_get(f"{address}/healthz") or "").strip() == "ok"


def _get(url: str) -> str | None:
    """Return the beginning of a page, empty when it needs a password; None when nothing answers.

    Servers on this machine are asked directly, others through the proxies of the environment.
    """
    import httpx  # most commands find no addresses and ask no server

    try:
        direct = on_loopback(url)
        with httpx.stream(
            "GET", url, timeout=ANSWER_SECONDS, follow_redirects=True, trust_env=not direct
        ) as response:
            if response.status_code in {401, 403}:
                return ""
            return next(response.raise_for_status().iter_text(100), "")
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
