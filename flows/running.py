"""Which servers run for a working folder: written by ``lindley up`` and ``ui``, read by all commands."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from lindley import process
from lindley.addresses import on_loopback, public
from lindley.atomic import write_over
from lindley.workspace import Workspace

#: Seconds that a server on this machine may take to say that it is alive.
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
    """

    mlflow: str
    prefect_api: str

    @property
    def prefect(self) -> str:
        """Where Prefect's pages are: beside the API, on a server of one's own."""
        return self.prefect_api.removesuffix("/api")


def state_file(workspace: Workspace) -> Path:
    """Return the file that holds the addresses."""
    return workspace.root / ".lindley" / "up.json"


def remember(workspace: Workspace, servers: Servers) -> None:
    """Write the addresses for other commands, and that this process has the servers run.

    Passwords are left out: they are in no file of Lindley's.
    """
    path = state_file(workspace)
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "mlflow": public(servers.mlflow),
        "prefect_api": public(servers.prefect_api),
        "folder": str(workspace.root),
        "process": process.this_process(),
    }
    write_over((json.dumps(document, indent=2) + "\n").encode(), path)


def forget(workspace: Workspace) -> None:
    """Remove the addresses."""
    state_file(workspace).unlink(missing_ok=True)


def addresses(workspace: Workspace) -> Servers | None:
    """Return the servers of this working folder when both are alive; None otherwise.

    A file that a killed ``lindley up`` left behind is not believed, nor one that came with a copy of another
    folder: by now the ports may be those of another folder's servers, which would take this folder's links.
    """
    try:
        document = json.loads(state_file(workspace).read_text(encoding="utf-8"))
        servers = Servers(str(document["mlflow"]), str(document["prefect_api"]))
        ours = document["folder"] == str(workspace.root)
        if not ours or not process.lives(str(document["process"])):
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    both = mlflow_answers(servers.mlflow) and prefect_answers(servers.prefect_api)
    return servers if both else None


def mlflow_answers(address: str) -> bool:
    """Return whether an MLflow server is alive at an address; one that is no page cannot be asked."""
    return not address.startswith("http") or (_get(f"{address}/health") or "").strip() == "OK"


def prefect_answers(api: str) -> bool:
    """Return whether a Prefect server is alive at the address of an API.

    Elsewhere any answer will do, as for Prefect's own client; who may ask it is known to that client only.
    """
    page = _get(f"{api}/health")
    return page is not None and (page.strip() == "true" or not on_loopback(api))


def _get(url: str) -> str | None:
    """Return the beginning of a page, empty when it is not for everybody; None when nothing answers."""
    try:
        with _opener(url).open(_request(url), timeout=ANSWER_SECONDS) as response:
            return str(response.read(100).decode("utf-8", "replace"))
    except urllib.error.HTTPError as error:
        error.close()
        return "" if error.code in {401, 403} else None
    except (OSError, ValueError, http.client.HTTPException):  # the last one: it speaks no HTTP
        return None


def _opener(url: str) -> urllib.request.OpenerDirector:
    """Return what opens a page: on this machine itself, anything else as the environment says."""
    if on_loopback(url):
        return urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return urllib.request.build_opener()


def _request(url: str) -> urllib.request.Request:
    """Return a request for a page; user and password go into a header, as they cannot stay in the address."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    request = urllib.request.Request(parts._replace(netloc=host).geturl())  # noqa: S310  (of a server)
    if user:
        name, _, word = user.partition(":")
        token = base64.b64encode(f"{unquote(name)}:{unquote(word)}".encode()).decode()
        request.add_unredirected_header("Authorization", f"Basic {token}")
    return request
