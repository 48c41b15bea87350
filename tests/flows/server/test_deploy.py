"""The automation for dead runs leaves out runs that wait for a person."""

from __future__ import annotations

from typing import Any

import pytest
from prefect.events.schemas.events import Resource, ResourceSpecification

from flows.server.deploy import automation
from tasks import asking
from tasks.names import DECIDE


@pytest.mark.parametrize(
    ("deployment", "pool", "watched"),
    [("update", "lindley", True), (DECIDE, "lindley", False), ("update", "other", False)],
)
def test_which_runs_are_watched(deployment: str, pool: str, watched: bool) -> None:
    named = {"deployment": deployment, "work-pool": pool, "flow": "decide", "tag": "decide"}
    related = [
        Resource(
            {"prefect.resource.id": f"x.{role}", "prefect.resource.role": role, "prefect.resource.name": name}
        )
        for role, name in named.items()
    ]
    trigger: Any = automation("lindley").trigger
    wanted = trigger.match_related
    assert all(isinstance(each, ResourceSpecification) for each in wanted)
    assert all(each.includes(related) for each in wanted) == watched


def test_the_deployment_that_is_left_out_is_the_one_that_asks() -> None:
    assert asking.ASKING.rpartition("/")[2] == DECIDE
