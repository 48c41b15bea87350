"""What tests ask the Prefect server about a flow run."""

from __future__ import annotations

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State


def artifacts(state: State[Any]) -> dict[str, Any]:
    """Return the artifacts that a run left, by key."""
    run_id = str(state.state_details.flow_run_id)
    with get_client(sync_client=True) as client:
        response = client.request(
            "POST", "/artifacts/filter", json={"artifacts": {"flow_run_id": {"any_": [run_id]}}}
        )
    return {item["key"]: item for item in response.json()}
