"""Mark flow runs whose process has ended as crashed; Prefect itself would show them as running for ever."""

from __future__ import annotations

from flows.running import ANSWER_SECONDS

_UNFINISHED = {"state": {"type": {"any_": ["RUNNING", "PENDING", "CANCELLING"]}}}
_STATE = {
    "type": "CRASHED",
    "name": "Crashed",
    "message": "Its worker was stopped; a file that is still in the landing folder is taken again.",
}


def mark_crashed(address: str, pool: str, auth_string: str) -> list[str]:
    """Mark the unfinished runs of a work pool, with their subflow runs, as crashed; return their names.

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
                    body = {"state": _STATE, "force": True}
                    client.post(f"{run['id']}/set_state", json=body).raise_for_status()
                    marked.append(str(run["name"]))
                parents = {"parent_flow_run_id": {"any_": [run["id"] for run in found]}}
                wanted = {"flow_runs": _UNFINISHED | parents}
            return marked
    except (httpx.HTTPError, ValueError):
        return []
