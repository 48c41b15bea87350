"""Mark flow runs whose process has ended as crashed; Prefect itself would show them as running for ever.

A run that asks a person starts again instead: it may hold an answer that nothing else does.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flows.running import ANSWER_SECONDS
from tasks.names import DECIDE_TAG

_UNFINISHED = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
_STATE = {
    "type": "CRASHED",
    "name": "Crashed",
    "message": "Its worker was stopped; a file that is still in the landing folder is taken again.",
}
_AGAIN = "Its worker was stopped; it starts again, with the answer if there is one."


def mark_crashed(address: str, pool: str, auth_string: str) -> list[str]:
    """Mark the unfinished runs of a work pool, with their subflow runs, as crashed; return their names.

    Runs that ask a person are scheduled again.

    To be called only when no worker of the pool runs. Runs that a command line carries out in its own process
    are in no pool and stay as they are. When the server does not answer, no run is marked.
    """
    import httpx  # `lindley --help` imports this module

    wanted = {"flow_runs": _UNFINISHED, "work_pools": {"name": {"any_": [pool]}}}
    try:
        with httpx.Client(
            base_url=f"{address}/api/flow_runs",
            auth=httpx.BasicAuth(*auth_string.split(":", 1)),
            trust_env=False,
            timeout=5 * ANSWER_SECONDS,
        ) as client:
            marked = []
            while found := client.post("filter", json=wanted).raise_for_status().json():
                for run in found:
                    body = {"state": _after(run), "force": True}
                    client.post(f"{run['id']}/set_state", json=body).raise_for_status()
                    marked.append(str(run["name"]))
                parents = {"parent_flow_run_id": {"any_": [run["id"] for run in found]}}
                wanted = {"flow_runs": _UNFINISHED | parents}
            return marked
    except (httpx.HTTPError, ValueError):
        return []


def _after(run: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a run after the end of its process."""
    asks = DECIDE_TAG in run["tags"] and run["deployment_id"]  # what it calls inherits its tags
    if not asks or run["state_type"] not in ("RUNNING", "PENDING"):
        return _STATE
    now = {"scheduled_time": datetime.now(UTC).isoformat()}
    return {"type": "SCHEDULED", "name": "AwaitingRetry", "message": _AGAIN, "state_details": now}
