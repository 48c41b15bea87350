"""Whether servers, processes and workers of a working folder are alive. Nothing is created or started."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from flows import access, running
from lindley import process
from lindley.addresses import on_loopback, public
from lindley.workspace import Workspace

_WAIT = running.ANSWER_SECONDS
#: Children of `lindley up` that run until it is stopped; the others are short commands.
_LASTING = ("mlflow", "prefect", "pages", "worker", "watcher")


def servers(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Return address and answer of both servers: those of the environment, or those of `lindley up` here.

    The pages of all chains are a third one where `lindley up` or `lindley ui` runs here.
    """
    own = _up(workspace)
    tracking = os.environ.get("MLFLOW_TRACKING_URI") or str(own.get("mlflow", ""))
    api = os.environ.get("PREFECT_API_URL", "").rstrip("/") or str(own.get("prefect_api", ""))
    served, pages = tracking.startswith("http"), str(own.get("pages", ""))
    shown = {"pages": {"address": pages, "answers": running.pages_answer(pages)}} if pages else {}
    return {
        "mlflow": {
            "address": public(tracking) if served else None,
            "answers": running.mlflow_answers(tracking.rstrip("/")) if served else None,
        },
        "prefect": {
            "address": public(api) if api else None,
            "answers": running.prefect_answers(api) if api else None,
        },
        **shown,
    }


def processes(workspace: Workspace) -> dict[str, bool]:
    """Return whether `lindley up` of this working folder and its children live; empty where it does not run.

    It removes its files when it is stopped: files that are left belong to one that was killed, or that ended
    because a child did.
    """
    own = _up(workspace)
    if not own:
        return {}
    found = {"up": process.lives(str(own.get("process"))) is True}
    folder = str(workspace.root / ".lindley")
    try:
        entries = json.loads(Path(folder, "processes.json").read_text(encoding="utf-8"))
        children = {
            str(entry["name"]): str(entry["process"])
            for entry in entries
            if entry["folder"] == folder and entry["name"] in _LASTING
        }
    except (OSError, ValueError, LookupError, TypeError):
        children = {}
    return found | {name[:40]: process.lives(child) is True for name, child in children.items()}


def workers(workspace: Workspace, found: dict[str, dict[str, Any]], pool: str = "lindley") -> int | None:
    """Return how many workers of a pool Prefect counts as online; None where it cannot be asked."""
    if not found["prefect"]["answers"]:
        return None
    import httpx  # most commands ask no server

    api = os.environ.get("PREFECT_API_URL", "").rstrip("/") or str(_up(workspace)["prefect_api"])
    try:
        answer = httpx.post(
            f"{api}/work_pools/{pool}/workers/filter",
            json={},
            auth=_password(workspace),
            headers=_key(),
            timeout=_WAIT,
            trust_env=not on_loopback(api),
        )
        answer.raise_for_status()
        return sum(worker.get("status") == "ONLINE" for worker in answer.json())
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, AttributeError, TypeError):
        return None


def _up(workspace: Workspace) -> dict[str, Any]:
    """Return what `lindley up` of this working folder wrote; empty where it does not run."""
    try:
        found = json.loads(running.state_file(workspace).read_text(encoding="utf-8"))
        return found if found["folder"] == str(workspace.root) else {}
    except (OSError, ValueError, LookupError, TypeError):
        return {}


def _password(workspace: Workspace) -> Any:
    """Return the password of the Prefect server; None where there is none. None is made."""
    given = os.environ.get(access.CLIENT_VARIABLE, "")
    if not given and "PREFECT_API_URL" not in os.environ:
        try:
            given = access.password_file(workspace).read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            given = ""
    user, colon, password = given.partition(":")
    return (user, password) if colon else None


def _key() -> dict[str, str]:
    key = os.environ.get("PREFECT_API_KEY")
    return {"Authorization": f"Bearer {key}"} if key else {}
