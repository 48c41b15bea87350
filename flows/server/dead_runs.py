"""Flow runs whose process is gone: Prefect shows them as running for ever, unless somebody says so."""

from __future__ import annotations

import http.client
import json
import urllib.request
from typing import Any

from flows.running import ANSWER_SECONDS

_UNFINISHED = ["RUNNING", "PENDING", "CANCELLING"]
_STATE = {
    "type": "CRASHED",
    "name": "Crashed",
    "message": "Its worker was stopped; a file that is still in the landing folder is taken again.",
}


def mark_crashed(address: str, pool: str) -> list[str]:
    """Mark the unfinished runs of a work pool, and their subflow runs, as crashed.

    To be called only when no worker of the pool is alive. Runs that a command line carries out in its
    own process are in no pool and stay as they are.

    Parameters
    ----------
    address
        Of the Prefect server.
    pool
        Name of the work pool.

    Returns
    -------
    list of str
        Names of the runs; none when the server does not answer.
    """
    unfinished = {"state": {"type": {"any_": _UNFINISHED}}}
    try:
        found = _post(
            f"{address}/api/flow_runs/filter",
            {"flow_runs": unfinished, "work_pools": {"name": {"any_": [pool]}}},
        )
        marked = []
        while found:
            for run in found:
                _post(f"{address}/api/flow_runs/{run['id']}/set_state", {"state": _STATE, "force": True})
                marked.append(str(run["name"]))
            parents = {"parent_flow_run_id": {"any_": [run["id"] for run in found]}}
            found = _post(f"{address}/api/flow_runs/filter", {"flow_runs": unfinished | parents})
    except (OSError, ValueError, http.client.HTTPException):
        return []
    return marked


def _post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(  # noqa: S310  (the address of our own server)
        url, data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=5 * ANSWER_SECONDS) as response:
        return json.loads(response.read())
